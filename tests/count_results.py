"""Counts test cases from a file of Bazel's build events (one JSON a line).

Prints `N passed, N failed, N skipped`. A test case of GoogleTest's XML counts as
one; a target without cases in its XML, or that did not run to the end, as one.
"""

import json
import sys
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree


def case_outcome(case):
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    if case.find("skipped") is not None or case.get("result") == "skipped":
        return "skipped"
    if case.get("status") == "notrun":
        return None  # DISABLED_ or filtered out.
    return "passed"


def xml_outcomes(path):
    try:
        cases = ElementTree.parse(path).getroot().iter("testcase")
        return [o for o in map(case_outcome, cases) if o]
    except (OSError, ElementTree.ParseError):
        return []


def target_outcomes(result):
    """The outcomes of one target from its `testResult` event."""
    passed = result["status"] in ("PASSED", "FLAKY")
    outcomes = []
    for output in result.get("testActionOutput", []):
        if output["name"] == "test.xml":
            path = urllib.parse.unquote(
                urllib.parse.urlparse(output["uri"]).path)
            outcomes = xml_outcomes(path)
    if not outcomes or (not passed and "failed" not in outcomes):
        outcomes.append("passed" if passed else "failed")
    return outcomes


def main(path):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with open(path, encoding="utf-8") as events:
        for line in events:
            event = json.loads(line)
            if "testResult" in event:
                for outcome in target_outcomes(event["testResult"]):
                    counts[outcome] += 1
            elif event.get("completed", {}).get("success") is False or (
                    "targetCompleted" in event.get("id", {})
                    and "completed" in event
                    and not event["completed"].get("success")):
                counts["failed"] += 1  # It did not build.
    print(", ".join(f"{n} {name}" for name, n in counts.items()))


if __name__ == "__main__":
    main(sys.argv[1])
