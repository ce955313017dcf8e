// Ours, measured through <mp/mp.hpp> alone: the tables of this program's files.
#pragma once

#include "contender.hpp"

namespace bench {

std::vector<Entry> pool_entries();
std::vector<Entry> channel_entries();
std::vector<Entry> process_entries();
std::vector<Entry> memory_entries();
std::vector<Entry> beside_entries();

}  // namespace bench
