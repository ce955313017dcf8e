#include "ours.hpp"

#include <mp/mp.hpp>

int main(int argc, char** argv) {
  mp::freeze_support();
  if (argc == 2 && std::string(argv[1]) == "nothing") return 0;  // what a bare posix_spawn of this program starts
  return bench::contend(argc, argv,
                        {bench::pool_entries(), bench::channel_entries(), bench::process_entries(),
                         bench::memory_entries(), bench::beside_entries()});
}
