"""Measures, prints the table, writes summary.json and report.html."""

import argparse
import json
import math
import os
import sys

import facts
import measure
import page
import plan
import progress
import rows
import runner
import table

# What is left of two minutes is for listing, plotting and a busy machine.
QUICK_BUDGET_S = 100


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    return parser.parse_args()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"wrote {path}")


def report(what, results, machine, out):
    """The table, the files, and in words what is missing from them."""
    some_rows, figures = rows.summarize(results.values, results.placements)
    alone = rows.alone(some_rows, figures)
    missing = dict(results.failures)
    missing.update({"/".join(group): reason
                    for group, reason in what.omitted.items()
                    if reason != "--quick"})
    print(table.table(some_rows))
    if alone:
        print(f"\n{table.figures_table(alone)}")
    print()
    for case, reason in missing.items():
        print(f"not measured: {case}: {reason}")
    summary = {"machine": machine, "rows": some_rows, "figures": figures,
               "not_measured": missing}
    write(os.path.join(out, "summary.json"), json.dumps(summary, indent=1))
    write(os.path.join(out, "report.html"),
          page.page(machine, some_rows, figures, missing))


def main():
    options = arguments()
    mallocs, absent = plan.malloc_libraries()
    for name in absent:
        print(f"{name} is not installed: its rows are missing")
    what = plan.make_plan(plan.list_binaries(options.binaries), mallocs,
                          options.only, options.quick, facts.available_bytes())
    if not what.groups:
        print("no workload matches", file=sys.stderr)
        return 2
    repetitions = 3 if options.quick else 7
    min_time_s = 0.02 if options.quick else 0.1

    def probe():
        return measure.ping_pong_ns(*what.probe) if what.probe else None

    # Repetition 0 warms files, caches and pools: it runs and is thrown away.
    bar = progress.Progress(
        [case.label for cases in what.groups.values() for case in cases],
        repetitions + 1)
    run = runner.Runner(lambda case: measure.run_case(case, min_time_s), probe,
                        bar, tries=2 if options.quick else 3,
                        budget_s=QUICK_BUDGET_S if options.quick else math.inf)
    results = run.run(what.groups, repetitions, plan.is_probed,
                      plan.needs_warming)
    bar.finish()
    machine = facts.machine_facts()
    machine["repetitions"] = results.repetitions
    if results.repetitions < repetitions:
        print(f"{results.repetitions} repetitions instead of {repetitions}: the "
              "time for --quick was up")
    seen_ns = [ns for some in results.placements.values() for ns in some.values()]
    if seen_ns:
        machine["cache_line_round_trip_ns"] = (
            f"{min(seen_ns):.0f}-{max(seen_ns):.0f}")
        machine["repetitions_redone"] = results.redone
    report(what, results, machine, options.out)
    return 1 if results.crashed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
