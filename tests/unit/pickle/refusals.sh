#!/bin/sh
# usage: refusals.sh LIB   ($CXX compiles)
# What cannot be sent does not compile: exactly one of our sentences, and the right one. Each case is one line: words of the sentence | statement.
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
CXX=${CXX#*ccache }
lib=$1 ran=0 bad=0

cat >"$folder/cases" <<'CASES'
raw pointer|dump(w, static_cast<int*>(nullptr));
raw pointer|dump(w, std::vector<const char*>());
raw pointer|dump(w, std::unique_ptr<int[]>());
raw pointer|struct A { int n; struct B { std::vector<void*> v; } b; }; dump(w, A{});
raw pointer|load<std::map<int, std::tuple<char*>>>(r);
a reference|struct A { int& n; }; int n = 0; dump(w, A{n});
a reference|dump(w, std::pair<int, std::reference_wrapper<int>>(1, global));
a view|dump(w, std::string_view("text"));
a view|dump(w, std::optional<std::span<int>>());
function pointer inside a value|struct A { void (*f)(); }; dump(w, A{});
function object inside a value|dump(w, std::function<void()>());
function object inside a value|dump(w, [] {});
use mp::Lock|struct A { std::mutex m; }; dumps(A{});
use mp::Process|dump(w, std::thread());
use mp::Value|dump(w, std::atomic<int>(1));
a union|union U { int a; float b; }; dump(w, U{1});
neither plain data nor an aggregate|class C { int n = 0; }; dump(w, C());
a stream|std::ostringstream s; dump(w, s);
non-const reference|require_sendable_call<void (*)(int&), int>();
cannot be called with these arguments|require_sendable_call<void (*)(int), std::string>();
raw pointer|require_sendable_call<void (*)(int*), int*>();
neither copied nor pickled|auto f = [p = std::unique_ptr<int>()] {}; require_sendable_call<decltype(f)>();
no callable|require_sendable_call<int>();
CASES

while IFS='|' read -r sentence statement; do
  ran=$((ran + 1))
  cat >"$folder/case.cpp" <<SOURCE
#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <sstream>
#include <thread>
#include "mp/pickle/pickle.hpp"
using namespace mp::pickle;
int global = 0;
void test(Writer& w, Reader& r) { static_cast<void>(w); static_cast<void>(r); $statement }
SOURCE
  if $CXX -std=c++20 -I "$lib" -fsyntax-only "$folder/case.cpp" 2>"$folder/errors"; then
    echo "compiles: $statement" && bad=$((bad + 1))
    continue
  fi
  errors=$(grep -c 'error: ' "$folder/errors")
  ours=$(grep 'error: ' "$folder/errors" | grep -c -F "$sentence")
  if [ "$errors" -ne 1 ] || [ "$ours" -ne 1 ]; then
    echo "$errors errors, $ours of them with \"$sentence\": $statement" && bad=$((bad + 1))
    grep 'error: ' "$folder/errors"
  fi
done <"$folder/cases"
echo "$ran cases, $bad wrong"
[ "$bad" -eq 0 ] && [ "$ran" -gt 0 ]
