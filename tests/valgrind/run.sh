#!/bin/sh
# Runs a test program under valgrind's memcheck, and fails when that has found anything in any process of it, whatever became of the
# process. For Meson's test setup `valgrind` (tools/test --valgrind).
# usage: run.sh PRELOADED-LIBRARY PROGRAM [ARGUMENT...]
here=$(dirname "$0") preloaded=$1 program=$2 name=$(basename "$2")
shift 2

# exceptions.txt: "PROGRAM" is left out, "PROGRAM: CASE" runs without that case.
without=$(sed -n "s/^$name: *//p" "$here/exceptions.txt" | paste -s -d, -)
case $name in *.sh) exit 77 ;; esac  # starts compilers and the like: nothing of ours
grep -qx "$name" "$here/exceptions.txt" && exit 77
[ -z "$without" ] || set -- "-tce=$without" "$@"

found=$(mktemp -d) || exit 1
trap 'rm -rf "$found"' EXIT
trap : TERM  # past Meson's time limit all get it: what was found until then is told below

# The arena takes what the address space has, 256 GiB; what memcheck notes of that costs each process 1.5 seconds at its start, and 330 MB.
ulimit -v 20000000

# --leak-check=no: it would read all of the arena, page after page (the address sanitizer looks for leaks).
# --run-*-freeres=no: a child that ends by _exit() would write what its parent left in the buffers of stdio.
# --fair-sched: who spins lets others run.
MP_TEST_ALONE=1 LD_PRELOAD=$preloaded valgrind --quiet --error-exitcode=99 --leak-check=no --fair-sched=yes --trace-children=yes \
  --run-libc-freeres=no --run-cxx-freeres=no --suppressions="$here/suppressions.txt" --log-file="$found/%p" "$program" "$@"
status=$?

# Lines that begin with "--" warn of system calls that this valgrind does not know.
if grep -hs '^==' "$found"/*; then
  echo "valgrind has found errors: see above"
  [ $status -ne 0 ] || status=1
fi
exit $status
