"""In which order cases run, and which repetitions count."""

import io
import math
import unittest

import measure
import plan
import progress
import runner


def groups_of(*labels):
    groups = {}
    for label in labels:
        workload, subject, argument = label.split("/")
        case = plan.Case("", label, workload, subject, argument)
        groups.setdefault(case.group, []).append(case)
    return groups


class Scene:
    """A runner over cases that each give the number of the call."""

    def __init__(self, groups, placements=(), failing=None, tries=3,
                 budget_s=math.inf):
        self.order = []
        self.failing = failing or {}
        self.groups = groups
        self.placements = iter(placements)
        self.bar = progress.Progress(
            [c.label for cases in groups.values() for c in cases], 1,
            out=io.StringIO())
        # Each case takes a second.
        self.runner = runner.Runner(self.run_case, self.probe, self.bar, tries,
                                    budget_s, lambda: len(self.order))

    def run_case(self, case):
        self.order.append(case.label)
        if case.label in self.failing:
            raise self.failing[case.label]
        return {"": measure.Value("ns", len(self.order), False)}

    def probe(self):
        self.order.append("probe")
        return next(self.placements)

    def run(self, repetitions, is_probed=lambda group: False):
        return self.runner.run(self.groups, repetitions, is_probed)


class OrderTest(unittest.TestCase):

    def test_subjects_take_turns_and_never_all_of_one_before_another(self):
        scene = Scene(groups_of("w/a/1", "w/b/1", "v/a/1"))
        scene.run(2)
        self.assertEqual(scene.order, ["w/a/1", "w/b/1", "v/a/1",
                                       "w/b/1", "w/a/1", "v/a/1",
                                       "w/a/1", "w/b/1", "v/a/1"])

    def test_the_first_repetition_only_warms(self):
        values = Scene(groups_of("w/a/1", "w/b/1")).run(2).values
        self.assertEqual(
            {subject: {i: v.value for i, v in some.items()}
             for subject, some in values["w", "1", ""].items()},
            {"a": {1: 4, 2: 5}, "b": {1: 3, 2: 6}})

    def test_a_group_that_needs_no_warming_is_not_warmed(self):
        scene = Scene(groups_of("w/a/1", "large/a/1"))
        scene.runner.run(scene.groups, 2, lambda group: False,
                         lambda group: group[0] != "large")
        self.assertEqual(scene.order, ["w/a/1"] + 2 * ["w/a/1", "large/a/1"])
        self.assertEqual(len(scene.runner.results.values["large", "1", ""]["a"]),
                         2)

    def test_no_subject_is_always_the_first_of_its_group(self):
        scene = Scene(groups_of("w/a/1", "w/b/1"))
        scene.run(7)
        self.assertEqual(scene.order[::2].count("w/a/1"), 4)

    def test_no_repetition_begins_that_would_end_too_late(self):
        for budget_s, count in ((0, 1), (5, 1), (6, 2), (7, 2), (8, 3), (99, 4)):
            scene = Scene(groups_of("w/a/1", "w/b/1"), budget_s=budget_s)
            results = scene.run(4)
            self.assertEqual(results.repetitions, count)
            self.assertEqual(len(scene.order), 2 * (count + 1))
            self.assertEqual(len(results.values["w", "1", ""]["a"]), count)


class FailureTest(unittest.TestCase):

    def test_a_case_that_fails_is_not_run_again_and_the_rest_goes_on(self):
        scene = Scene(groups_of("w/a/1", "w/b/1"),
                      failing={"w/a/1": measure.Failure("no pool")})
        results = scene.run(3)
        self.assertEqual(scene.order.count("w/a/1"), 1)
        self.assertEqual(results.failures, {"w/a/1": "no pool"})
        self.assertEqual(len(results.values["w", "1", ""]["b"]), 3)
        self.assertFalse(results.crashed)

    def test_a_crash_is_told_from_a_refusal(self):
        scene = Scene(groups_of("w/a/1"),
                      failing={"w/a/1": measure.Failure("x", crashed=True)})
        self.assertTrue(scene.run(1).crashed)


class PlacementTest(unittest.TestCase):

    def test_only_groups_that_ask_for_it_are_probed(self):
        scene = Scene(groups_of("ring/a/1", "w/a/1"), placements=[80] * 4)
        results = scene.run(1, lambda group: group[0] == "ring")
        self.assertEqual(scene.order, 2 * ["probe", "ring/a/1", "probe", "w/a/1"])
        self.assertEqual(results.placements, {("ring", "1"): {1: 80}})

    def test_a_repetition_in_which_the_cores_moved_is_run_again(self):
        scene = Scene(groups_of("ring/a/1"),
                      placements=[80, 80, 80, 330, 330, 340])
        results = scene.run(1, lambda group: True)
        self.assertEqual(scene.order.count("ring/a/1"), 3)
        self.assertEqual(results.redone, 1)
        self.assertEqual(results.placements, {("ring", "1"): {1: 335}})
        # The value that counts is that of the last try.
        self.assertEqual(results.values["ring", "1", ""]["a"][1].value, 8)

    def test_after_so_many_tries_the_repetition_is_lost_and_that_is_said(self):
        scene = Scene(groups_of("ring/a/1"), placements=[80, 330] * 4, tries=2)
        results = scene.run(1, lambda group: True)
        self.assertEqual(scene.order.count("ring/a/1"), 4)
        self.assertEqual(results.values, {})
        self.assertIn("cores moved", results.failures["ring/a/1"])
        self.assertFalse(results.crashed)

    def test_values_stand_in_the_order_of_the_plan(self):
        scene = Scene(groups_of("ring/a/1", "ring/b/1", "w/a/1"),
                      placements=[80, 80, 80, 330] + [80] * 2, tries=1)
        values = scene.run(2, lambda group: group[0] == "ring").values
        self.assertEqual(list(values), [("ring", "1", ""), ("w", "1", "")])
        self.assertEqual(list(values["ring", "1", ""]), ["a", "b"])

    def test_without_a_probe_every_repetition_counts(self):
        scene = Scene(groups_of("ring/a/1"), placements=[None] * 6)
        results = scene.run(2, lambda group: True)
        self.assertEqual(len(results.values["ring", "1", ""]["a"]), 2)
        self.assertEqual(results.placements, {})

    def test_noise_within_a_placement_is_no_move(self):
        self.assertTrue(runner.same_placement(80, 110))
        self.assertFalse(runner.same_placement(350, 80))


class ProgressTest(unittest.TestCase):

    def setUp(self):
        self.now = 0.0
        self.bar = progress.Progress(["a", "b"], 2, clock=lambda: self.now,
                                     out=io.StringIO())

    def case(self, label, seconds):
        self.bar.start(label)
        self.now += seconds
        self.bar.end(label)

    def test_what_has_run_counts_with_its_own_time_the_rest_with_the_mean(self):
        self.assertIsNone(self.bar.seconds_left())
        self.case("a", 10)
        self.assertEqual((self.bar.done(), self.bar.seconds_left()), (1, 30))
        self.case("b", 2)
        self.assertEqual((self.bar.done(), self.bar.seconds_left()), (2, 12))

    def test_a_repetition_that_runs_again_is_still_to_come(self):
        self.case("a", 10)
        self.bar.plan(["a"], 1)
        self.assertEqual(self.bar.done(), 0)
        self.case("a", 10)
        self.bar.skip("b")
        self.assertEqual((self.bar.done(), self.bar.seconds_left()), (2, 10))

    def test_what_is_not_run_at_all_is_not_to_come(self):
        self.bar.plan(["a", "b"], -1)
        self.case("a", 10)
        self.case("b", 10)
        self.assertEqual((self.bar.done(), self.bar.seconds_left()), (2, 0))

    def test_time_is_written_in_minutes(self):
        self.assertEqual(progress.clock_text(125.9), "2:05")


if __name__ == "__main__":
    unittest.main()
