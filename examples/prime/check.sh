#!/bin/sh
# usage: check.sh PRIME      What prime prints, reads and refuses.
prime=$(realpath "$1")
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
bad=0
fail() {
  echo "$*"
  sed 's/^/  out: /' out
  sed 's/^/  err: /' err
  bad=1
}

# $1: what to expect as the last line; the rest: arguments.
prints() {
  last=$1
  shift
  "$prime" "$@" >out 2>err || fail "prime $*: exit code $?"
  [ -s err ] && fail "prime $*: standard error is not empty, a progress bar in a pipe?"
  printf 'Timings:\nProcesses: S\nThreads  : S\nSerial   : S\nspeed-ups\n%s\n' "$last" >wanted
  sed -E -e '2,4s/: [0-9]+\.[0-9]+$/: S/' -e '5s/^Processes are [0-9.naif]+ times .*/speed-ups/' out | cmp -s - wanted ||
    fail "prime $*: not what was expected, which ends in: $last"
}

# $1: how standard error begins; $2: the input.
refuses() {
  printf "$2" >numbers
  "$prime" --file numbers >out 2>err
  [ $? -eq 2 ] || fail "prime --file with '$2': exit code is not 2"
  [ -s out ] && fail "prime --file with '$2': something on standard output"
  grep -q "^$1" err || fail "prime --file with '$2': standard error does not begin with '$1'"
}

printf '0\n1\n2\n3\n4\n\n  112272535095293 \n115280095190773\r\n1099726899285419' >numbers
prints '4 of 8 numbers are prime.' --file numbers --workers 2
prints '4 of 8 numbers are prime.' --file numbers --workers 3 --chunksize 2
prints '1 of 1 numbers are prime.' --file - --workers 1 <<END
1000003
END
prints '0 of 0 numbers are prime.' --file /dev/null --workers 2
prints "$("$prime" --count 12 --workers 2 --seed 7 | tail -n 1)" --count 12 --workers 1 --seed 7

refuses 'numbers:2: ' '5\nabc\n7\n'
refuses 'numbers:1: ' '12x\n'
refuses 'numbers:3: ' '1\n\n-5\n'
refuses 'numbers:1: ' '18446744073709551616\n'
refuses 'numbers:1: ' '3.5\n'
refuses 'numbers:2: ' '1\n1 2\n'
echo 'x' | "$prime" --file - >out 2>err
[ $? -eq 2 ] && grep -q '^-:1: ' err || fail 'prime --file - with x'
"$prime" --file "$folder/none" >out 2>err
[ $? -eq 2 ] || fail 'prime with a file that is not there'
exit $bad
