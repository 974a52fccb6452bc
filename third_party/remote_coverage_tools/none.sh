#!/bin/sh
echo "coverage tools are not packaged" >&2
exit 1
