"""Runs one case once, in a process of its own, and reads what it says."""

import collections
import json
import os
import re
import subprocess

# Counters of a benchmark that are results of their own; less is better.
COUNTERS = {"peak_over_data": "x", "worst_ns": "ns"}
NANOSECONDS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
TIMEOUT_S = 300

# more: whether more is better.
Value = collections.namedtuple("Value", "unit value more")


class Failure(Exception):
    """A case that gave no figure: why, and whether its process came to grief
    (rather than say itself that it cannot run here)."""

    def __init__(self, reason, crashed=False):
        super().__init__(reason)
        self.crashed = crashed


def read_result(entry):
    """{measure: Value} of one entry of Google Benchmark's JSON. The main measure
    has no name: throughput where the benchmark counts bytes or items, else time."""
    if entry.get("error_occurred"):
        raise Failure(entry.get("error_message", "no reason given"))
    results = {}
    if "bytes_per_second" in entry:
        results[""] = Value("GB/s", entry["bytes_per_second"] / 1e9, True)
    elif "items_per_second" in entry:
        results[""] = Value("M/s", entry["items_per_second"] / 1e6, True)
    else:
        nanoseconds = NANOSECONDS[entry.get("time_unit", "ns")]
        results[""] = Value("ns", entry["real_time"] * nanoseconds, False)
    for counter, unit in COUNTERS.items():
        if counter in entry:
            results[counter] = Value(unit, entry[counter], False)
    return results


def output(binary, name, min_time_s, preload=""):
    """The JSON entry of the one benchmark that is called `name`."""
    environment = dict(os.environ)
    if preload:
        environment["LD_PRELOAD"] = preload
    command = [binary, f"--benchmark_filter=^{re.escape(name)}$",
               "--benchmark_format=json",
               f"--benchmark_min_time={min_time_s}"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True,
                              text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as expired:
        raise Failure(f"took more than {TIMEOUT_S} s", crashed=True) from expired
    except OSError as error:
        raise Failure(str(error), crashed=True) from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise Failure(f"ended with {done.returncode}: {lines[-1]}", crashed=True)
    try:
        (entry,) = json.loads(done.stdout)["benchmarks"]
    except (ValueError, LookupError) as error:
        raise Failure(f"no result: {error}", crashed=True) from error
    return entry


def run_case(case, min_time_s):
    return read_result(output(case.binary, case.name, min_time_s, case.preload))


def ping_pong_ns(binary, name, min_time_s=0.02):
    """What a cache line's way there and back costs now, or None where the probe
    cannot run."""
    try:
        return 1e9 / output(binary, name, min_time_s)["items_per_second"]
    except (Failure, LookupError, ZeroDivisionError):
        return None
