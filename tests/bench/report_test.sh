#!/usr/bin/env bash
# Runs the report's tests beside the sources that this script's link leads to. The
# distribution's Python: it has the plotting library.
here=$(dirname "$(readlink -f "$0")")
export PYTHONPATH=$here/../../bench/report PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -m unittest discover --verbose -s "$here" -p '*_test.py'
