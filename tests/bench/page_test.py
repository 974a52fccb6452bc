"""The HTML report and the summary have every row."""

import importlib.util
import json
import unittest

import measure
import rows

HAS_PLOTS = importlib.util.find_spec("matplotlib") is not None


def rates(*values):
    return {i: measure.Value("M/s", v, True) for i, v in enumerate(values, 1)}


@unittest.skipUnless(HAS_PLOTS, "python3-matplotlib is not installed")
class PageTest(unittest.TestCase):

    def setUp(self):
        import page  # pylint: disable=import-outside-toplevel
        self.page = page

    def test_a_sweep_and_a_bar_plot_for_each_measure(self):
        values = {("w", str(size), measured): {"doppel_x": rates(2, 2.5),
                                               "a<b": rates(1, 1)}
                  for size in (1 << 10, 1 << 20, 1 << 30)
                  for measured in ("", "worst_ns")}
        found, figures = rows.summarize(values, {})
        self.assertEqual(len(found), 6)
        text = self.page.page({"cpu": "some"}, found, figures,
                              {"w/y/1": "no pool"})
        self.assertEqual(text.count("<svg"), 4)
        # Each row has it as our median and as the ratio, each figure as its own.
        self.assertEqual(text.count("<td>2.25</td>"), 6 * 2 + 6)
        self.assertIn("no pool", text)
        # A name is text, never markup.
        self.assertIn("<td>a&lt;b</td>", text)
        self.assertNotIn("<td>a<b", text)

    def test_arguments_that_are_no_numbers_are_no_sweep(self):
        values = {("w", name, ""): {"doppel_x": rates(2), "p": rates(1)}
                  for name in ("a", "b", "c")}
        text = self.page.page({}, *rows.summarize(values, {}), {})
        self.assertEqual(text.count("<svg"), 1)

    def test_nothing_measured_is_a_page_that_says_why(self):
        self.assertIn("no pool", self.page.page({}, [], [], {"w/y/1": "no pool"}))


class SummaryTest(unittest.TestCase):

    def test_rows_and_figures_survive_json(self):
        both = rows.summarize({("w", "1", ""): {"doppel_x": rates(2, 3),
                                                "p": rates(1, 1)}}, {})
        self.assertEqual(json.loads(json.dumps(both)), list(both))
        self.assertLessEqual(
            {"workload", "subject", "peer", "unit", "subject_median",
             "peer_median", "ratio_median", "ratio_min", "ratio_max"},
            both[0][0].keys())


if __name__ == "__main__":
    unittest.main()
