// What is measured, and what came out. A case compares one figure of ours with the rivals' and with the floor, and may have
// a target; everything in it is a contender: a program that measures once and prints (contenders/contender.hpp).
//
//   cases.cpp --Case--> run.cpp --(starts contenders in turns, takes medians)--> Row --> output.cpp, page.cpp
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

struct Contender {
  std::string name;     // as the table calls it
  std::string program;  // bench_PROGRAM; a Python script if it ends in .py; under mpirun if it begins with mpi
  std::string test;     // its first argument
};

// Of the rounds.
struct Spread {
  double median = 0, least = 0, most = 0;
};

// What one contender printed, over all rounds.
struct Measurement {
  std::string name;
  std::optional<double> value = {};  // median
  double least = 0, most = 0;
  std::map<std::string, Spread> detail = {};  // what else it printed: p50, p99, p99.9, syscalls, allocations, ...
  std::vector<std::string> notes = {};
  std::string why_not = {};  // where there is no value: "missing", or how it failed
};

struct Case;

struct Row {
  const Case* of = nullptr;
  bool quick = false;  // figures that mean nothing
  Measurement ours = {};
  std::vector<Measurement> parts = {}, rivals = {}, floors = {};  // parts: what a combined figure of ours was made of
  std::optional<double> floor() const { return floors.empty() ? std::nullopt : floors[0].value; }
  const Measurement* best_rival() const;
  std::optional<double> ratio_to_best_rival() const;  // ours / its, whatever the unit
  std::optional<double> ratio_to(const Measurement& floor) const;
  // To the first floor, which is the one that targets name; the others say what a part of the rest is due to.
  std::optional<double> ratio_to_floor() const { return floors.empty() ? std::nullopt : ratio_to(floors[0]); }
  std::optional<bool> met() const;  // nothing: no target, nothing to compare with, or quick
  // To the floor of what is possible here (Case::possible), and whether that is near: at most kNear times as much.
  std::optional<double> ratio_to_possible() const;
  bool near_possible() const { return ratio_to_possible().value_or(2 * kNear) <= kNear; }
  static constexpr double kNear = 1.3;
};

// One condition of a target: how much ours may be at most, or must be at least.
struct Condition {
  std::string text;
  std::function<std::optional<double>(const Row&)>
      limit;  // in the unit of the row; nothing without what it is relative to
  bool at_least = false, against_floor = false;
  std::optional<bool> holds(const Row& row) const;
};

struct Case {
  std::string name, unit;
  std::vector<Contender> ours;  // one, or the parts that `combine` makes a figure of
  std::vector<Contender> rivals = {}, floors = {};
  std::vector<Condition> target = {};  // all of them
  // Where a target may be out of reach: the one of `floors` that says how far one can come here.
  std::string possible = {};
  bool more_is_better = false;
  std::function<double(const std::vector<double>&)> combine = {};

  std::string target_text() const;
};

// All of them, in the order of the table of targets.
const std::vector<Case>& all_cases();
