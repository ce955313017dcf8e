#!/usr/bin/env python3
"""Counts what the tests of one or more builds really did.

usage: count_tests.py BUILD=TESTLOG...

TESTLOG is Meson's testlog.json. A doctest program counts as its test cases, any other test as one. A build without a log
(it could not be built, or ran no test) is one failure. Tells of every failed test its build, name, exit status and the end
of its output: a log whose middle is cut off still says what failed. Then prints a line for each build if there are several and
closes with "N passed, M failed"; the exit status is 0 only if something ran and all of it passed.
"""

import json
import re
import sys

DOCTEST_SUMMARY = re.compile(r"^\[doctest\] test cases: +\d+ +\| +(\d+) passed +\| +(\d+) failed", re.MULTILINE)
LAST_LINES = 30


def succeeded(test):
    return test["result"] in ("OK", "EXPECTEDFAIL")


def count(test):
    """(passed, failed) of one line of the log."""
    summaries = DOCTEST_SUMMARY.findall(test.get("stdout") or "")
    if not summaries:
        return (1, 0) if succeeded(test) else (0, 1)
    passed, failed = map(int, summaries[-1])
    return (passed, failed if succeeded(test) else max(failed, 1))


def read_log(path):
    try:
        with open(path, encoding="utf-8") as log:
            tests = [json.loads(line) for line in log]
    except OSError:
        return []
    return [test for test in tests if test["result"] != "SKIP"]


def count_log(tests):
    if not tests:
        return 0, 1
    counts = [count(test) for test in tests]
    return sum(passed for passed, _ in counts), sum(failed for _, failed in counts)


def end_of(text):
    """Its last lines, each of bounded length: one endless line must not push out the others."""
    return [line[:400] for line in (text or "").rstrip().splitlines()[-LAST_LINES:]]


def tell_failures(build, tests):
    if not tests:
        print(f"---- build/{build}: no test ran: it could not be built, or its log is missing")
    for test in tests:
        if succeeded(test):
            continue
        print(f"---- build/{build}: {test['name']}: {test['result']}, exit status {test['returncode']}, "
              f"after {test['duration']:.1f} s")
        for stream in ("stdout", "stderr"):
            for line in end_of(test.get(stream)):
                print(f"{stream}: {line}")


def main():
    logs = {build: read_log(path) for build, path in (argument.split("=", 1) for argument in sys.argv[1:])}
    for build, tests in logs.items():
        tell_failures(build, tests)
    totals = {build: count_log(tests) for build, tests in logs.items()}
    if len(totals) > 1:
        for build, (passed, failed) in totals.items():
            print(f"build/{build}: {passed} of {passed + failed} passed")
    passed = sum(passed for passed, _ in totals.values())
    failed = sum(failed for _, failed in totals.values())
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


sys.exit(main())
