#!/usr/bin/env bash
# Handles live in registers only if no function is called with their address: whatever of
# a handle the compiler did not inline into the loops stands here as a symbol.
set -euo pipefail

handles='Ring(Reader|Writer|Handle)|Broadcast(Reader|Writer)Handle|Overwrite(Reader|Writer)'
handles+='|Mpsc(Producer|Consumer)|Message(Reader|Writer)|OverwritingRing<.*>::(Reader|Writer)'

if ! grep -q 'RingWatch<.*>::LookFor' "$1"; then
  echo "FAILED: the loops were not compiled as the test takes them to be" && exit 1
fi
# A static function is given no handle.
if grep -E "doppel::(internal::)?($handles)(<[^(]*>)?::" "$1" |
  grep -v '::OffsetNow('; then
  echo "FAILED: these are called with the address of a handle" && exit 1
fi
echo "PASSED"
