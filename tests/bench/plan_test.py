"""Which cases there are: names, mallocs, sizes."""

import unittest

import plan

MALLOCS = [("glibc", ""), ("other", "/lib/other.so")]
GIB = 1 << 30


def planned(names, only="", quick=False, memory_bytes=1 << 40):
    return plan.make_plan({"/bin/a_benchmark": names}, MALLOCS, only, quick,
                          memory_bytes)


class NamesTest(unittest.TestCase):

    def test_what_the_harness_appends_is_cut_off(self):
        self.assertEqual(
            plan.split_name("push_back/std_vector/64/iterations:1/real_time"),
            ("push_back", "std_vector", "64"))

    def test_another_form_is_refused(self):
        for name in ("push_back/64", "a/b/c/d", "a//1", ""):
            with self.assertRaisesRegex(ValueError, "workload/subject/argument"):
                plan.split_name(name)


class PlanTest(unittest.TestCase):

    def test_malloc_runs_once_for_each_malloc_under_its_name(self):
        groups = planned(["w/doppel_a/1", "w/malloc/1"]).groups
        self.assertEqual(list(groups), [("w", "1")])
        self.assertEqual([(c.subject, c.preload, c.name)
                          for c in groups["w", "1"]],
                         [("doppel_a", "", "w/doppel_a/1"),
                          ("glibc", "", "w/malloc/1"),
                          ("other", "/lib/other.so", "w/malloc/1")])

    def test_arguments_are_groups_of_their_own(self):
        self.assertEqual(list(planned(["w/a/1", "v/a/1", "w/a/2"]).groups),
                         [("w", "1"), ("w", "2"), ("v", "1")])

    def test_a_binary_of_which_nothing_is_known_is_planned_like_any_other(self):
        (cases,) = planned(["unheard_of/doppel_x/y"]).groups.values()
        self.assertEqual(cases[0].label, "unheard_of/doppel_x/y")

    def test_only_matches_workload_and_argument_never_a_subject(self):
        names = ["w/doppel_a/1", "w/b/1", "w/b/2", "v/b/1"]
        self.assertEqual(list(planned(names, only="^w/1$").groups), [("w", "1")])
        self.assertEqual(len(planned(names, only="^w/1$").groups["w", "1"]), 2)
        self.assertFalse(planned(names, only="doppel").groups)

    def test_quick_leaves_large_sizes_out(self):
        names = ["push_back/a/1000", f"push_back/a/{GIB}", "other/a/99999999999"]
        self.assertEqual(list(planned(names, quick=True).groups),
                         [("push_back", "1000"), ("other", "99999999999")])
        self.assertEqual(len(planned(names).groups), 3)

    def test_what_the_memory_cannot_hold_is_left_out_with_a_reason(self):
        names = [f"push_back/a/{GIB}", "push_back/a/1000"]
        small = planned(names, memory_bytes=2 * GIB)
        self.assertEqual(list(small.groups), [("push_back", "1000")])
        self.assertEqual(small.omitted, {("push_back", str(GIB)):
                                         "needs 3.0 GiB of memory, "
                                         "2.0 are available"})

    def test_what_touches_its_memory_itself_needs_no_warming(self):
        self.assertFalse(plan.needs_warming(("push_back", str(GIB))))
        self.assertTrue(plan.needs_warming(("push_back", "1000")))
        self.assertTrue(plan.needs_warming(("unheard_of", "y")))

    def test_the_probe_is_found_even_where_it_is_not_asked_for(self):
        binary = "/x/containers/spsc_ring_benchmark"
        name = "round_trip/bare_line/4096/real_time"
        some = plan.make_plan({binary: [name]}, MALLOCS, "none", False, GIB)
        self.assertEqual(some.probe, (binary, name))
        self.assertIsNone(planned([name]).probe)

    def test_a_malloc_that_is_not_installed_is_named(self):
        found, missing = plan.malloc_libraries(
            {"glibc": None, "absent": "libdoppel_absent.so"})
        self.assertEqual((found, missing), ([("glibc", "")], ["absent"]))


if __name__ == "__main__":
    unittest.main()
