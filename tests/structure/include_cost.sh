#!/bin/sh
# usage: include_cost.sh LIB   ($CXX compiles)
# Compiles a trivial main with <mp/mp.hpp> and one with <future> and <regex>, five times each, and prints the best times.
# More than twice as long is a failure (DESIGN, section 3).
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
CXX=${CXX#*ccache }
printf '#include <mp/mp.hpp>\nint main() {}\n' >"$folder/ours.cpp"
printf '#include <future>\n#include <regex>\nint main() {}\n' >"$folder/std.cpp"

best() {  # milliseconds
  for _ in 1 2 3 4 5; do
    begin=$(date +%s%N)
    $CXX -std=c++20 -I "$lib" -c "$folder/$1.cpp" -o "$folder/$1.o" || exit 1
    echo $((($(date +%s%N) - begin) / 1000000))
  done | sort -n | head -n 1
}

lib=$1
ours=$(best ours) && std=$(best std) || exit 1
echo "<mp/mp.hpp>: $ours ms, <future> and <regex>: $std ms, ratio $((100 * ours / std)) %"
[ "$ours" -le $((2 * std)) ]
