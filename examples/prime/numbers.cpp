#include "numbers.hpp"

#include <charconv>
#include <random>
#include <system_error>

std::vector<std::uint64_t> random_numbers(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_int_distribution<std::uint64_t> any(100'000'000'000'000, 499'999'999'999'999);
  std::vector<std::uint64_t> numbers(count);
  for (auto& n : numbers) n = any(engine);
  return numbers;
}

std::vector<std::uint64_t> read_numbers(std::istream& in, const std::string& file) {
  std::vector<std::uint64_t> numbers;
  std::size_t line = 0;
  for (std::string text; std::getline(in, text);) {
    ++line;
    auto fail = [&](const std::string& why) { throw BadLine(file + ":" + std::to_string(line) + ": " + why); };
    auto begin = text.find_first_not_of(" \t\r");
    if (begin == std::string::npos) continue;
    std::string word = text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
    std::uint64_t n = 0;
    auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), n);
    bool digits = word.find_first_not_of("0123456789", word[0] == '-') == std::string::npos && word != "-";
    if (word[0] == '-' && digits) fail("negative: '" + word + "'");
    if (error == std::errc::result_out_of_range && digits) fail("more than 64 bits: '" + word + "'");
    if (error != std::errc() || end != word.data() + word.size()) fail("not a number: '" + word + "'");
    numbers.push_back(n);
  }
  if (in.bad()) throw BadLine(file + ":" + std::to_string(line + 1) + ": cannot be read");
  return numbers;
}
