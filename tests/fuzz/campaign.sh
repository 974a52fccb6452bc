#!/usr/bin/env bash
# Runs one fuzz target; Bazel calls it (tests/run --only fuzz).
#
#   campaign.sh TARGET    DOPPEL_FUZZ_RUNS inputs, and all that are kept before
set -euo pipefail
target=$1
here=tests/fuzz
out=${TEST_UNDECLARED_OUTPUTS_DIR:?Bazel says where inputs that fail are left}
new=$TEST_TMPDIR/new
mkdir -p "$new"

# 4 MiB of freed memory are enough to see who still uses it, and stay in the cache.
# Leaks are looked for at the end: after each input it takes longer than the input.
# Edges alone guide it: how often each is taken finds seeded faults no sooner, and takes
# as long as the inputs.
export ASAN_OPTIONS=quarantine_size_mb=4:detect_leaks=1
export UBSAN_OPTIONS=print_stacktrace=1
flags=(-detect_leaks=0 -use_cmp=0 -use_counters=0 -entropic=0 -reload=0
  -artifact_prefix="$out/" -print_final_stats=1 -verbosity=0)

shopt -s nullglob
found_before=("$here/regressions/$target"/*)
((${#found_before[@]})) && "$here/$target" "${flags[@]}" "${found_before[@]}"

corpus=("$here/corpus/$target")
[[ -d ${corpus[0]} ]] || corpus=()
"$here/$target" "${flags[@]}" -max_len=64 -runs="${DOPPEL_FUZZ_RUNS:-200000}" \
  "$new" "${corpus[@]}"

# What is new, for whoever grows the corpus (tests/fuzz/grow_corpus).
tar -C "$new" -czf "$out/new.tar.gz" .
