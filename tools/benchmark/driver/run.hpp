// Starts contenders and collects what they print.
#pragma once

#include <string>

#include "case.hpp"

struct RunOptions {
  int rounds = 5;
  bool quick = false;  // tiny sizes: for a sign of life, not for figures
};

// All contenders of a case in turns, every second round backwards. What is missing or fails has no value and says why.
Row run_case(const Case& which, const RunOptions& options);

// Where the contenders lie: beside this program.
std::string contender_path(const std::string& file);

// The Python that has joblib, if there is one.
const std::string& python();

// The standard output of a command, or nothing if it failed or took longer than `seconds`; why in `problem`.
std::string output_of(const std::vector<std::string>& command, int seconds, std::string& problem);
