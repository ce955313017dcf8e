#!/bin/sh
# Checks a Promela model exhaustively, and that spin finds the mistake where one was made on purpose.
# usage: check.sh MODEL.pml SPIN CC DEFINES... -- BREAK...
# DEFINES: one word each, a comma for a space: the sizes to check. BREAK: a name N, compiled in by -DBREAK_N with the first of them.
set -eu
model=$1 spin=$2 cc=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$model" "$work/model.pml"
cd "$work"

# All states; what pan says is in the file `said`.
explore() {
  rm -f pan.c pan model.pml.trail
  "$spin" "$@" -a model.pml
  "$cc" -O2 -w -DSAFETY -DVECTORSZ=2048 -o pan pan.c
  ./pan -m100000 > said
  cat said
}

first=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  defines=$(echo "$1" | tr , ' ')
  : "${first:=$defines}"
  echo "== as it is: $defines"
  explore $defines
  grep -q 'errors: 0$' said && ! grep -q 'Search not completed' said
  shift
done
[ -n "$first" ] && [ $# -gt 1 ]
shift
for mistake in "$@"; do
  echo "== broken: $mistake"
  explore $first "-DBREAK_$mistake"
  if grep -q 'errors: 0$' said; then
    echo "the model does not see it"
    exit 1
  fi
done
