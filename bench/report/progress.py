"""How far the run is, and when it will end."""

import sys
import time

# Without a terminal a line each so many seconds, so that a log stays short.
LOG_EVERY_S = 20


class Progress:
    """One line: cases done, time since the start, time left, what runs now.

    The time left is that of the cases to come, each taken to need what it needed
    last, or the mean of all where it has not run yet.
    """

    def __init__(self, labels, repetitions, clock=time.monotonic,
                 out=sys.stderr):
        self._left = {label: repetitions for label in labels}
        self._total = len(self._left) * repetitions
        self._seconds = {}
        self._clock = clock
        self._out = out
        self._began = self._case_began = self._logged = clock()

    def start(self, label):
        self._case_began = self._clock()
        self._show(label)

    def end(self, label):
        self._seconds[label] = self._clock() - self._case_began
        self._left[label] -= 1

    def skip(self, label):
        """It failed before, and costs no time any more."""
        self._seconds[label] = 0.0
        self._left[label] -= 1

    def plan(self, labels, count):
        """These are run `count` times more (or, below 0, less) than was planned."""
        for label in labels:
            self._left[label] += count
            self._total += min(count, 0)

    def done(self):
        return self._total - sum(self._left.values())

    def seconds_left(self):
        if not self._seconds:
            return None
        mean = sum(self._seconds.values()) / len(self._seconds)
        return sum(count * self._seconds.get(label, mean)
                   for label, count in self._left.items())

    def finish(self):
        self._logged = None
        self._show("done")
        print(file=self._out)

    def _show(self, what):
        now = self._clock()
        left = self.seconds_left()
        line = (f"[{self.done()}/{self._total}] {clock_text(now - self._began)}, "
                f"{clock_text(left) if left is not None else '?'} left  {what}")
        if self._out.isatty():
            print(f"\r{line[:99]:<99}", end="", file=self._out, flush=True)
        elif self._logged is None or now - self._logged >= LOG_EVERY_S:
            print(line, file=self._out, flush=True)
            self._logged = now


def clock_text(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
