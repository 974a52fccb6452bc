"""In which order everything is run, and which repetitions count.

The subjects of a group (one workload, one argument) run one after the other, then
the next group, and all of it again: a repetition. So what drifts on the machine
meets all subjects alike, and a ratio is formed within one repetition. Every other
repetition runs its subjects backwards, so that none is always the first.

The two cores of a virtual machine may share a cache or not, and the hypervisor
moves them. Groups whose subjects pass data between threads are bracketed by a
probe; a repetition during which the placement changed is run again.
"""

import dataclasses
import math
import time

import measure

# A cache line's round trip differs by four and more between placements, and by a
# few percent within one.
PLACEMENT_FACTOR = 2.0


@dataclasses.dataclass
class Results:
    """What was measured. Repetitions are numbered from 1; 0 only warms.

    values: {(workload, argument, measure): {subject: {repetition: Value}}}
    placements: {(workload, argument): {repetition: ns}}, of probed groups
    failures: {case: reason}
    repetitions: how many there were, fewer than asked for if the time was up
    """
    values: dict = dataclasses.field(default_factory=dict)
    placements: dict = dataclasses.field(default_factory=dict)
    failures: dict = dataclasses.field(default_factory=dict)
    crashed: bool = False
    repetitions: int = 0
    redone: int = 0

    def keep(self, group, repetition, by_case, placement_ns):
        for case, values in by_case.items():
            for name, value in values.items():
                key = (*group, name)
                subjects = self.values.setdefault(key, {})
                subjects.setdefault(case.subject, {})[repetition] = value
        if placement_ns is not None:
            self.placements.setdefault(group, {})[repetition] = placement_ns


def same_placement(before_ns, after_ns):
    return max(before_ns, after_ns) < PLACEMENT_FACTOR * min(before_ns, after_ns)


class Runner:
    """run_case(case) gives {measure: Value} or raises measure.Failure; probe() the
    nanoseconds of a cache line's round trip, or None where there is no probe. No
    repetition but the first begins that would end after `budget_s`, as long as the
    one before it took."""

    def __init__(self, run_case, probe, progress, tries=3, budget_s=math.inf,
                 clock=time.monotonic):
        self._run_case = run_case
        self._probe = probe
        self._progress = progress
        self._tries = tries
        self._budget_s = budget_s
        self._clock = clock
        self.results = Results()

    def run(self, groups, repetitions, is_probed,
            needs_warming=lambda group: True):
        for group, cases in groups.items():
            if not needs_warming(group):
                self._progress.plan([case.label for case in cases], -1)
        began = last_began = self._clock()
        for repetition in range(repetitions + 1):
            now = self._clock()
            if repetition > 1 and 2 * now - last_began - began > self._budget_s:
                break
            last_began = now
            self.results.repetitions = repetition
            for group, cases in groups.items():
                if not repetition and not needs_warming(group):
                    continue
                probe = self._probe if is_probed(group) else lambda: None
                self._run_group(group, cases, repetition, probe)
        self._note_lost(groups)
        self._sort(groups)
        return self.results

    def _sort(self, groups):
        """The order of the plan, whichever group had its first value when."""
        place = {group: i for i, group in enumerate(groups)}
        self.results.values = dict(sorted(
            self.results.values.items(), key=lambda item: place[item[0][:2]]))

    def _note_lost(self, groups):
        """A subject without a figure and without a reason lost all repetitions."""
        measured = {(workload, argument, subject)
                    for (workload, argument, _), some
                    in self.results.values.items() for subject in some}
        for cases in groups.values():
            for case in cases:
                if (*case.group, case.subject) not in measured:
                    self.results.failures.setdefault(
                        case.label, "the cores moved during every try")

    def _run_group(self, group, cases, repetition, probe):
        order = cases[::-1] if repetition % 2 else cases
        for this_try in range(self._tries):
            if this_try:
                self.results.redone += 1
                self._progress.plan([case.label for case in cases], 1)
            before_ns = probe()
            found = self._run_cases(order)
            after_ns = probe()
            if None in (before_ns, after_ns):
                placement_ns = None
            elif same_placement(before_ns, after_ns):
                placement_ns = (before_ns + after_ns) / 2
            else:
                continue
            if repetition:
                by_case = {case: found[case] for case in cases if case in found}
                self.results.keep(group, repetition, by_case, placement_ns)
            return
        # Every try was disturbed: the repetition is lost for all subjects.

    def _run_cases(self, cases):
        by_case = {}
        for case in cases:
            # What failed once fails for a reason that stays.
            if case.label in self.results.failures:
                self._progress.skip(case.label)
                continue
            self._progress.start(case.label)
            try:
                by_case[case] = self._run_case(case)
            except measure.Failure as failure:
                self.results.failures[case.label] = str(failure)
                self.results.crashed |= failure.crashed
            self._progress.end(case.label)
        return by_case
