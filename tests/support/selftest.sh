#!/bin/sh
# usage: selftest.sh PROGRAM
# Runs the misbehaving tests of selftest.cpp and checks that each fails for the right reason.
export MP_SELFTEST_NAME="mp-selftest-$$"
trap 'rm -f "/dev/shm/$MP_SELFTEST_NAME"' EXIT
failures=0

expect() {  # STATUS TEXT TEST_CASE
  output=$("$program" --no-skip --test-case="$3" 2>&1)
  status=$?
  if [ "$status" -ne "$1" ] || ! echo "$output" | grep -q -e "$2"; then
    printf '%s: exit status %s, expected %s with "%s":\n%s\n' "$3" "$status" "$1" "$2" "$output"
    failures=1
  fi
}

program=$1
unset MP_TEST_TIMEOUT
expect 0 'SUCCESS' 'nothing is left'
expect 1 'descriptor [0-9]* was left open: /dev/null' 'a descriptor is left'
expect 1 'process [0-9]* was left running' 'an orphan is left'
expect 1 "/dev/shm/$MP_SELFTEST_NAME was left" 'a shared memory name is left'
expect 1 'killed by signal 9' 'a crash'
export MP_TEST_TIMEOUT=2
expect 1 'waits in' 'tests hang'
exit $failures
