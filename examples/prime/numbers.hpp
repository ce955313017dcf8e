// The numbers that prime looks at: random ones, or the lines of a file.
#pragma once

#include <cstdint>
#include <istream>
#include <stdexcept>
#include <string>
#include <vector>

// A line that is no number of 64 bits; what() is "FILE:LINE: why".
struct BadLine : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// `count` numbers in [10^14, 5 * 10^14), the same for the same seed.
std::vector<std::uint64_t> random_numbers(std::size_t count, std::uint64_t seed);

// One decimal number a line; empty lines are passed over. Throws BadLine, naming the first bad one.
std::vector<std::uint64_t> read_numbers(std::istream& in, const std::string& file);
