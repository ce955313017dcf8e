#!/bin/sh
# usage: moment.sh FUZZER CORPUS     runs libFuzzer for a moment from the corpus; what it grows is thrown away
grown=$(mktemp -d) || exit 1
trap 'rm -rf "$grown"' EXIT
# The same numbers each time, and not more of them on a fast machine, so that a run says the same of the same code.
"$1" -seed=1 -runs=4000 -max_total_time=2 -timeout=60 -artifact_prefix="$grown/" -print_final_stats=1 "$grown" "$2"
status=$?
# What was found, to be put under tests/fuzz/found.
for artifact in "$grown"/crash-* "$grown"/timeout-* "$grown"/oom-* "$grown"/leak-*; do
  [ -e "$artifact" ] && echo "input ($artifact):" && base64 "$artifact"
done
exit $status
