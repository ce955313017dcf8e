#!/usr/bin/env python3
"""Counts what the tests of one or more builds really did.

usage: count_tests.py BUILD=TESTLOG...

TESTLOG is Meson's testlog.json. A doctest program counts as its test cases, any other test as one. A build without a log
(it could not be built, or ran no test) is one failure. Prints a line for each build if there are several and closes with
"N passed, M failed"; the exit status is 0 only if something ran and all of it passed.
"""

import json
import re
import sys

DOCTEST_SUMMARY = re.compile(r"^\[doctest\] test cases: +\d+ +\| +(\d+) passed +\| +(\d+) failed", re.MULTILINE)


def count(test):
    """(passed, failed) of one line of the log."""
    succeeded = test["result"] in ("OK", "EXPECTEDFAIL")
    summaries = DOCTEST_SUMMARY.findall(test.get("stdout", ""))
    if not summaries:
        return (1, 0) if succeeded else (0, 1)
    passed, failed = map(int, summaries[-1])
    return (passed, failed if succeeded else max(failed, 1))


def count_log(path):
    try:
        with open(path, encoding="utf-8") as log:
            tests = [json.loads(line) for line in log]
    except OSError:
        tests = []
    counts = [count(test) for test in tests if test["result"] != "SKIP"]
    if not counts:
        return 0, 1
    return sum(passed for passed, _ in counts), sum(failed for _, failed in counts)


def main():
    totals = {build: count_log(path) for build, path in (argument.split("=", 1) for argument in sys.argv[1:])}
    if len(totals) > 1:
        for build, (passed, failed) in totals.items():
            print(f"build/{build}: {passed} of {passed + failed} passed")
    passed = sum(passed for passed, _ in totals.values())
    failed = sum(failed for _, failed in totals.values())
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


sys.exit(main())
