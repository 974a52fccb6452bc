#!/usr/bin/env bash
# Runs the style test on the tree that this script's link leads to.
exec /usr/bin/python3 "$(dirname "$(readlink -f "$0")")/style_test.py"
