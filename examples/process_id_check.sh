#!/bin/sh
# usage: process_id_check.sh PROCESS_ID      Tasks in order; four processes, then one. Slow enough for the fourth worker to
# have begun before the first is free again, on a busy machine and under sanitizers, too.
"$1" --scale 0.5 | awk '
  $1 " " $2 " " $4 " " $5 != "ran task in process" || $3 != (NR - 1) % 4 + 1 || $6 !~ /^[0-9]+$/ { bad = 1 }
  { print; first[NR <= 4 ? $6 : "threads " $6] = 1 }
  END { for (p in first) ++count[p ~ /threads/]; exit bad || NR != 8 || count[0] != 4 || count[1] != 1 }'
