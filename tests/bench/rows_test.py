"""Pairs, ratios, medians, and how they are shown."""

import unittest

import measure
import rows
import table


def times(*values):
    return {i: measure.Value("ns", v, False) for i, v in enumerate(values, 1)}


def rates(*values):
    return {i: measure.Value("M/s", v, True) for i, v in enumerate(values, 1)}


def summary(by_subject, placements=None, key=("w", "1", "")):
    return rows.summarize({key: by_subject},
                          {key[:2]: placements} if placements else {})


class RatioTest(unittest.TestCase):

    def test_less_time_is_better(self):
        self.assertEqual(rows.ratio(times(2)[1], times(6)[1]), 3)

    def test_more_a_second_is_better(self):
        self.assertEqual(rows.ratio(rates(6)[1], rates(2)[1]), 3)

    def test_a_ratio_is_of_pairs_not_of_medians(self):
        (row,), _ = summary({"doppel_x": rates(10, 20, 90),
                             "peer": rates(10, 5, 30)})
        self.assertEqual(row["ratio_median"], 3)
        self.assertEqual((row["ratio_min"], row["ratio_max"]), (1, 4))
        self.assertEqual((row["subject_median"], row["peer_median"]), (20, 10))
        # The ratio of the medians would be 2.

    def test_a_repetition_that_one_side_lacks_makes_no_pair(self):
        ours = rates(10, 20, 30)
        del ours[2]
        (row,), _ = summary({"doppel_x": ours, "peer": rates(10, 5, 10)})
        self.assertEqual((row["repetitions"], row["ratio_median"]), (2, 2))

    def test_no_pair_no_row_and_no_division_by_nothing(self):
        self.assertEqual(summary({"doppel_x": {1: rates(1)[1]},
                                  "peer": {2: rates(1)[1]}})[0], [])
        self.assertEqual(summary({"doppel_x": times(0), "peer": times(1)})[0],
                         [])

    def test_ours_are_compared_with_peers_only(self):
        some = rates(1)
        found, _ = summary({"doppel_a": some, "doppel_b": some, "p": some,
                            "q": some})
        self.assertEqual({(r["subject"], r["peer"]) for r in found},
                         {("doppel_a", "p"), ("doppel_a", "q"),
                          ("doppel_b", "p"), ("doppel_b", "q")})

    def test_ours_without_a_peer_is_listed_alone(self):
        found, figures = summary({"doppel_a": times(3, 1, 2)})
        self.assertEqual(found, [])
        (figure,) = rows.alone(found, figures)
        self.assertEqual((figure["median"], figure["min"], figure["max"]),
                         (2, 1, 3))
        compared = summary({"doppel_a": times(3), "p": times(3)})
        self.assertEqual(rows.alone(*compared), [])


class PlacementTest(unittest.TestCase):

    def test_the_most_frequent_placement_counts(self):
        self.assertEqual(
            rows.of_one_placement({1: 350, 2: 80, 3: 340, 4: 360}), {1, 3, 4})
        self.assertEqual(
            rows.of_one_placement({1: 85, 2: 80, 3: 340, 4: 110}), {1, 2, 4})

    def test_of_two_as_frequent_the_nearer(self):
        self.assertEqual(rows.of_one_placement({1: 350, 2: 80}), {2})

    def test_repetitions_of_another_placement_are_in_no_figure(self):
        found, figures = summary(
            {"doppel_x": rates(10, 900, 12), "peer": rates(5, 1, 6)},
            placements={1: 80, 2: 350, 3: 85})
        self.assertEqual((found[0]["ratio_min"], found[0]["ratio_max"]), (2, 2))
        self.assertEqual([f["repetitions"] for f in figures], [2, 2])


class ShownTest(unittest.TestCase):

    def test_arguments_are_read_as_bytes_where_they_are_whole_units(self):
        self.assertEqual(table.bytes_text("1000"), "1000")
        self.assertEqual(table.bytes_text("65536"), "64 KiB")
        self.assertEqual(table.bytes_text("1073741824"), "1 GiB")
        self.assertEqual(table.bytes_text("0"), "0")
        self.assertEqual(table.workload_text("push_back/1048576:worst_ns"),
                         "push_back 1 MiB, worst_ns")

    def test_a_small_ratio_is_not_shown_as_nothing(self):
        self.assertEqual(table.ratio_text(1.234), "1.23")
        self.assertEqual(table.ratio_text(0.00123), "0.0012")

    def test_the_table_has_every_row(self):
        found, _ = summary({"doppel_x": rates(2, 2.5), "p": rates(1, 1),
                            "q": rates(2, 2)})
        lines = table.table(found).splitlines()
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[1], r"^w 1 .* doppel_x .* p .* 2\.25x .* 2\.00-2\.50$")
        self.assertEqual(len(table.table([]).splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
