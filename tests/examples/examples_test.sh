#!/usr/bin/env bash
# From the root of the runfiles, where Bazel starts a test.
exec /usr/bin/python3 tests/examples/examples_test.py
