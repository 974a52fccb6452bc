"""What a benchmark's process says, and how it fails."""

import pathlib
import unittest

import measure
import plan

FAKE = str(pathlib.Path(__file__).parent / "fake_benchmark.sh")


def case(name, preload=""):
    return plan.Case(FAKE, name, "w", "s", "1", preload)


class ReadTest(unittest.TestCase):

    def test_bytes_before_items_before_time(self):
        entry = {"real_time": 5.0, "items_per_second": 2e6,
                 "bytes_per_second": 3e9, "worst_ns": 7.0}
        self.assertEqual(measure.read_result(entry), {
            "": ("GB/s", 3.0, True), "worst_ns": ("ns", 7.0, False)})
        del entry["bytes_per_second"]
        self.assertEqual(measure.read_result(entry)[""], ("M/s", 2.0, True))
        del entry["items_per_second"]
        self.assertEqual(measure.read_result(entry)[""], ("ns", 5.0, False))

    def test_time_is_in_nanoseconds_whatever_the_benchmark_prints(self):
        for unit, value in (("ns", 5), ("us", 5e3), ("ms", 5e6), ("s", 5e9)):
            entry = {"real_time": 5.0, "time_unit": unit}
            self.assertEqual(measure.read_result(entry)[""].value, value)


class RunTest(unittest.TestCase):

    def test_a_result(self):
        self.assertEqual(measure.run_case(case("fine"), 0.1), {
            "": ("M/s", 4.0, True), "worst_ns": ("ns", 7, False)})

    def test_the_library_is_preloaded_in_the_case_alone(self):
        # The loader complains of a file that is none, and goes on.
        for preload in ("/nonexistent.so", ""):
            result = measure.run_case(case("preload", preload), 0.1)
            self.assertEqual(result[""].value, len(preload))

    def test_a_skipped_benchmark_says_why_and_is_no_crash(self):
        with self.assertRaisesRegex(measure.Failure, "^no pool$") as caught:
            measure.run_case(case("skip"), 0.1)
        self.assertFalse(caught.exception.crashed)

    def test_a_crash_says_how_it_ended_and_its_last_words(self):
        with self.assertRaisesRegex(
                measure.Failure, "ended with -6: it went wrong") as caught:
            measure.run_case(case("crash"), 0.1)
        self.assertTrue(caught.exception.crashed)

    def test_no_result_and_no_binary_are_crashes(self):
        absent = plan.Case("/nonexistent", "w/s/1", "w", "s", "1")
        for some in (case("none"), absent):
            with self.assertRaises(measure.Failure) as caught:
                measure.run_case(some, 0.1)
            self.assertTrue(caught.exception.crashed)

    def test_the_probe_is_the_reciprocal_of_the_rate(self):
        self.assertEqual(measure.ping_pong_ns(FAKE, "fine"), 250)
        self.assertIsNone(measure.ping_pong_ns(FAKE, "crash"))
        self.assertIsNone(measure.ping_pong_ns("/nonexistent", "fine"))


if __name__ == "__main__":
    unittest.main()
