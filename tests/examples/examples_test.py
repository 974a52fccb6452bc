"""The examples run, and what the README quotes is what they are."""

import pathlib
import re
import subprocess
import unittest

EXAMPLES = {
    "std_allocator": r"request 2: 1000 nodes in \d+ bytes",
    "ring": r"the sum is 499999500000",
    "huge_page_arena": r"granted: \S+",
    "log_shipper": r"(the program was killed; 1001 of its lines.*\s*"
                   r"(shipped: .*\s*)*){3}",
    "epoll_loop": r"1000 samples, \d+ wakes, \d+ ticks",
}


class ExamplesTest(unittest.TestCase):

    def test_they_run(self):
        for name, pattern in EXAMPLES.items():
            done = subprocess.run([f"examples/{name}"], capture_output=True,
                                  text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, pattern)

    def test_the_readme_quotes_them(self):
        """Each block of C++ stands in an example, line by line."""
        readme = pathlib.Path("README.md").read_text(encoding="utf-8")
        blocks = re.findall(r"```cpp\n(.*?)```", readme, re.DOTALL)
        self.assertGreaterEqual(len(blocks), 3)
        sources = [pathlib.Path(f"examples/{name}.cc").read_text(
            encoding="utf-8") for name in EXAMPLES]
        for block in blocks:
            self.assertTrue(any(block in source for source in sources), block)


if __name__ == "__main__":
    unittest.main()
