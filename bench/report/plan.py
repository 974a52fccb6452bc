"""What to run: benchmarks by workload, and under which malloc.

A benchmark is named `workload/subject/argument`. The subject `malloc` stands for
whatever malloc the process has: it is run once for each of MALLOCS, and its rows
bear that name.
"""

import dataclasses
import glob
import os
import re
import subprocess

LIBRARIES = "/usr/lib/*/"
MALLOCS = {
    "glibc": None,
    "jemalloc": "libjemalloc.so.2",
    "mimalloc": "libmimalloc.so.2*",
    "tcmalloc": "libtcmalloc_minimal.so.4",
}

# Larger arguments are for the full run only: bytes, or nodes.
QUICK_LIMITS = {
    "random_access": 64 << 20,
    "random_access_chased": 64 << 20,
    "push_back": 32 << 20,
    "first_touch": 16 << 20,
    "ring_items": 4 << 20,
    "list": 100_000,
    "map": 100_000,
    "unordered_map": 100_000,
    "flat_hash_map": 100_000,
    # Much as unordered_map and flat_hash_map: not in the time of a quick run.
    "node_hash_map": 0,
    "btree_map": 0,
}

# What a subject needs at its peak, in arguments: std::vector holds the old and the
# new elements while it grows, and the same is warmed before.
PEAK_FACTORS = {
    "push_back": 3.0,
    "first_touch": 1.1,
    "random_access": 1.1,
    "random_access_chased": 1.1,
}

# From this size on those touch the memory that they need themselves, and are not
# worth the time of a repetition that only warms.
WARM_FROM_BYTES = 256 << 20

# Subjects that pass data between two threads, and what probes their placement.
PROBED = ("ring_", "round_trip")
PROBE = ("containers/spsc_ring_benchmark", "round_trip/bare_line/4096")


@dataclasses.dataclass(frozen=True)
class Case:
    """One subject of one workload: what a repetition runs."""
    binary: str
    name: str  # As the binary knows it.
    workload: str
    subject: str  # As the report knows it.
    argument: str
    preload: str = ""

    @property
    def group(self):
        """Cases that are compared: run one after the other, again and again."""
        return (self.workload, self.argument)

    @property
    def label(self):
        return f"{self.workload}/{self.subject}/{self.argument}"


@dataclasses.dataclass
class Plan:
    """groups: {(workload, argument): [Case]}; omitted: {group: reason};
    probe: (binary, benchmark) or None."""
    groups: dict
    omitted: dict
    probe: tuple | None


def malloc_libraries(pattern_of=None):
    """[(name, path)] of each malloc that is installed, and the names of those that
    are not. glibc's path is empty: nothing is preloaded."""
    found, missing = [], []
    for name, pattern in (pattern_of or MALLOCS).items():
        if pattern is None:
            found.append((name, ""))
            continue
        paths = sorted(glob.glob(LIBRARIES + pattern))
        if paths:
            found.append((name, paths[0]))
        else:
            missing.append(name)
    return found, missing


def split_name(name):
    """(workload, subject, argument); what Google Benchmark adds is left out."""
    parts = [part for part in name.split("/")
             if not re.fullmatch(r"(iterations:\d+|(real|manual|process)_time)",
                                 part)]
    if len(parts) != 3 or not all(parts):
        raise ValueError(f"{name} is not workload/subject/argument")
    return tuple(parts)


def names_of(binary):
    listing = subprocess.run([binary, "--benchmark_list_tests=true"],
                             capture_output=True, text=True, check=True)
    return listing.stdout.split()


def why_omitted(group, quick, memory_bytes):
    """Why a group is not run; empty if it is."""
    workload, argument = group
    if quick and workload in QUICK_LIMITS:
        if int(argument) > QUICK_LIMITS[workload]:
            return "--quick"
    need = int(PEAK_FACTORS[workload] * int(argument)) if (
        workload in PEAK_FACTORS) else 0
    if need > memory_bytes:
        return (f"needs {need / 2**30:.1f} GiB of memory, "
                f"{memory_bytes / 2**30:.1f} are available")
    return ""


def make_plan(names_by_binary, mallocs, only, quick, memory_bytes):
    """The workloads in the order in which the binaries list them.

    names_by_binary: {path: [benchmark]}; mallocs: [(name, path to preload)]."""
    groups, omitted, probe = {}, {}, None
    for binary, names in names_by_binary.items():
        for name in names:
            workload, subject, argument = split_name(name)
            if binary.endswith(PROBE[0]) and name.startswith(PROBE[1]):
                probe = (binary, name)
            group = (workload, argument)
            if not re.search(only, "/".join(group)):
                continue
            reason = why_omitted(group, quick, memory_bytes)
            if reason:
                omitted[group] = reason
                continue
            variants = mallocs if subject == "malloc" else [(subject, "")]
            groups.setdefault(group, []).extend(
                Case(binary, name, workload, label, argument, preload)
                for label, preload in variants)
    return Plan(by_workload(groups), omitted, probe)


def by_workload(groups):
    """The same, with the arguments of a workload one after the other."""
    place = {}
    for workload, _ in groups:
        place.setdefault(workload, len(place))
    return dict(sorted(groups.items(), key=lambda item: place[item[0][0]]))


def needs_warming(group):
    workload, argument = group
    return workload not in PEAK_FACTORS or int(argument) < WARM_FROM_BYTES


def is_probed(group):
    return group[0].startswith(PROBED)


def list_binaries(folder):
    binaries = sorted(glob.glob(os.path.join(folder, "*", "*_benchmark")))
    return {binary: names_of(binary) for binary in binaries}
