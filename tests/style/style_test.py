"""Refuses what the compiler lets pass.

1. An include of our own header without the doppel/ prefix, or by angle brackets.
2. An include that points upward: ROOMS lists the rooms from the ground up, and a
   file includes its own room and those below only.
3. A header without a design block: a comment above its include guard with
   Invariants, Thread safety, Errors and Example.
4. A header whose include guard is not DOPPEL_ and its path.
5. A public header without its unit test and its benchmark.
6. A system call's header in the library outside alloc/internal.
"""

import pathlib
import re
import sys
import unittest

# From the ground up. A room may include itself and what stands before it.
ROOMS = [
    "alloc/internal/linux_abi", "alloc/internal/sys", "alloc/internal/",
    "alloc/page_size", "alloc/residency", "alloc/memfd", "alloc/arena",
    "alloc/mapping", "alloc/growing_mapping", "alloc/region",
    "alloc/allocator", "alloc/memory_resource", "containers/internal/",
    "containers/ring_layout", "containers/ring_protocol", "containers/ring_wait",
    "containers/internal/ends_protocol", "containers/internal/event_word",
    "containers/internal/event_count",
    "containers/ring_options", "containers/ring_invitation",
    "containers/internal/ring_demand", "containers/internal/ring_end",
    "containers/internal/ring_wake", "containers/internal/ring_handle",
    "containers/ring_writer",
    "containers/ring_reader", "containers/internal/line_ownership",
    "containers/internal/mpsc_protocol", "containers/internal/mpsc_shared",
    "containers/internal/mpsc_wait", "containers/internal/mpsc_producer",
    "containers/internal/mpsc_consumer",
    "containers/internal/broadcast_protocol",
    "containers/internal/overwrite_protocol",
    "containers/internal/broadcast_storage",
    "containers/internal/broadcast_wait",
    "containers/internal/broadcast_handle",
    "containers/internal/overwrite_writer",
    "containers/internal/overwrite_reader",
    "containers/internal/spsc_storage", "containers/internal/ring_identity",
    "containers/internal/ring_file", "containers/internal/ring_link",
    "containers/internal/guarded_peer",
    "containers/internal/guarded_storage",
    "containers/internal/shared_orphans",
    "containers/internal/shared_storage", "containers/", "examples/", "tests/support/", "tests/", "bench/support/",
    "bench/",
]

# What a file of the library may not reach for: sys.h makes the calls.
SYSTEM_HEADERS = re.compile(
    r'#include <(fcntl|unistd|sys/(ioctl|socket|syscall|resource|vfs))\.h>')
# Constants only, or a query that cannot fail (sysconf).
ALLOWED_SYSTEM_HEADERS = {"alloc/memfd.cc", "alloc/residency.cc",
                          "alloc/page_size.cc"}

INCLUDE = re.compile(r'^#include ([<"])([^>"]+)[>"]', re.MULTILINE)
FOLDERS = ("alloc", "containers", "bench", "tests", "examples")


def room(path):
    """The index of the longest entry of ROOMS that `path` begins with."""
    fitting = [(len(name), i) for i, name in enumerate(ROOMS)
               if path.startswith(name)]
    return max(fitting)[1] if fitting else None


def include_faults(path, text, exists):
    """Faults 1 and 2 of one file."""
    faults = []
    for bracket, included in INCLUDE.findall(text):
        if bracket == '"' and not included.startswith("doppel/"):
            if exists(included) or "/" not in included:
                faults.append(f'{path}: "{included}" lacks the doppel/ prefix')
        if not included.startswith("doppel/"):
            continue
        if bracket == "<":
            faults.append(f"{path}: <{included}> is our own: use quotes")
        target = included[len("doppel/"):]
        if not exists(target):
            faults.append(f"{path}: {included} does not exist")
        elif room(target) > room(path):
            faults.append(f"{path}: {included} points upward")
    return faults


def header_faults(path, text):
    """Faults 3 and 4 of one header."""
    guard = "DOPPEL_" + re.sub(r"[/.]", "_", path).upper() + "_"
    head, found, _ = text.partition(f"#ifndef {guard}\n")
    if not found:
        return [f"{path}: the include guard is not {guard}"]
    return [f"{path}: the design block lacks '{part}'"
            for part in ("Invariants:", "Thread safety:", "Errors:", "Example:")
            if f"// {part}" not in head]


def mirror_faults(path, exists):
    """Fault 5 of one header."""
    public = (path.startswith(("alloc/", "containers/"))
              and "/internal/" not in path)
    if not public:
        return []
    stem = path[:-len(".h")]
    return [f"{path}: {mirror} is missing"
            for mirror in (f"tests/{stem}_test.cc", f"bench/{stem}_benchmark.cc")
            if not exists(mirror)]


def system_faults(path, text):
    """Fault 6 of one file of the library."""
    library = path.startswith(("alloc/", "containers/"))
    if not library or path.startswith("alloc/internal/"):
        return []
    if path in ALLOWED_SYSTEM_HEADERS:
        return []
    return [f"{path}: {match.group(0)}: system calls belong to alloc/internal"
            for match in SYSTEM_HEADERS.finditer(text)]


class TheTreeTest(unittest.TestCase):

    def test_the_tree_is_in_style(self):
        root = pathlib.Path(ROOT)
        paths = [p.relative_to(root).as_posix() for folder in FOLDERS
                 for p in sorted((root / folder).rglob("*"))
                 if p.suffix in (".h", ".cc")]
        self.assertGreater(len(paths), 20, "the tree was not found")
        exists = lambda path: (root / path).is_file()
        faults = []
        for path in paths:
            text = (root / path).read_text(encoding="utf-8")
            faults += include_faults(path, text, exists)
            faults += system_faults(path, text)
            if path.endswith(".h"):
                faults += header_faults(path, text) + mirror_faults(path, exists)
        self.assertEqual(faults, [])


class TheRulesTest(unittest.TestCase):
    """Each rule finds its fault."""

    def exists(self, path):
        return path in {"alloc/arena.h", "alloc/mapping.h"}

    def test_prefix(self):
        for line in ('#include "alloc/arena.h"\n', '#include "arena.h"\n',
                     '#include <doppel/alloc/arena.h>\n'):
            self.assertEqual(
                len(include_faults("alloc/mapping.cc", line, self.exists)), 1)
        good = '#include "doppel/alloc/arena.h"\n#include "absl/status/status.h"\n'
        self.assertEqual(include_faults("alloc/mapping.cc", good, self.exists),
                         [])

    def test_upward(self):
        line = '#include "doppel/alloc/mapping.h"\n'
        self.assertIn("upward",
                      include_faults("alloc/arena.h", line, self.exists)[0])
        self.assertEqual(
            include_faults("containers/ring.h", line, self.exists), [])

    def test_missing(self):
        line = '#include "doppel/alloc/nothing.h"\n'
        self.assertIn("does not exist",
                      include_faults("bench/x.cc", line, self.exists)[0])

    def test_design_block(self):
        block = "// Invariants:\n// Thread safety:\n// Errors:\n// Example:\n"
        guard = "#ifndef DOPPEL_ALLOC_ARENA_H_\n"
        self.assertEqual(header_faults("alloc/arena.h", block + guard), [])
        self.assertEqual(len(header_faults("alloc/arena.h", guard + block)), 4)
        self.assertIn("guard", header_faults("alloc/arena.h", block)[0])

    def test_mirror(self):
        self.assertEqual(len(mirror_faults("alloc/arena.h", self.exists)), 2)
        self.assertEqual(mirror_faults("alloc/internal/sys.h", self.exists), [])

    def test_system_headers(self):
        line = "#include <unistd.h>\n"
        self.assertEqual(len(system_faults("alloc/arena.cc", line)), 1)
        self.assertEqual(system_faults("alloc/internal/sys_file.cc", line), [])


if __name__ == "__main__":
    # The test runs beside the sources that Bazel laid out, or in the tree.
    ROOT = pathlib.Path(__file__).parents[2]
    unittest.main(argv=[sys.argv[0], "-v"])
