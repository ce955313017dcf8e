#!/bin/sh
# usage: third_party.sh LIB   ($CXX compiles)
# Fails if <mp/mp.hpp> reaches a header of nlohmann/json or any other library than the standard one: they cost every user compile time.
reached=$(echo '#include <mp/mp.hpp>' | $CXX -std=c++20 -I "$1" -x c++ -M -) || exit 1
found=$(echo "$reached" | tr ' ' '\n' | grep -E '/(boost|nlohmann|fmt|elfutils)/')
[ -z "$found" ] && exit 0
echo "<mp/mp.hpp> reaches:" $found
exit 1
