// A program for context.cpp to run: its main calls freeze_support(), or forgets it, as its environment and argument say.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "mp/errors.hpp"
#include "mp/memory/ref.hpp"
#include "mp/os/launch.hpp"
#include "mp/process/process.hpp"

namespace {

// Made before main, in every copy of this program, where the environment asks for it.
using Cell = std::uint64_t;
mp::memory::Ref global =
    std::getenv("GLOBALS") ? mp::memory::create<Cell>(mp::memory::Kind::value, 0, 0, Cell{7}) : mp::memory::Ref();

void nothing() {}
void looks_at_its_own() { std::exit(global.as<Cell>() == 7 ? 0 : 5); }

int start(mp::StartMethod method, void (*f)()) {
  try {
    mp::Process p({.context = method}, f);
    p.start();
    p.join();
    return *p.exitcode();
  } catch (const mp::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 3;
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string what = argc > 1 ? argv[1] : "";
  // "deceived": this process calls it, the copy does not, since it goes by its own arguments.
  if (what == "deceived" || std::getenv("REMEMBERS")) mp::freeze_support();
  if (what == "globals") return start(mp::spawn, looks_at_its_own);
  if (what == "deceived") return start(mp::spawn, nothing);
  std::printf("runs\n");
  return start(what == "forkserver" ? mp::forkserver : mp::spawn, nothing);
}
