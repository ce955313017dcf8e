#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

namespace mp {
[[gnu::weak]] void freeze_support();
}

int main(int argc, char** argv) {
  if (mp::freeze_support != nullptr) mp::freeze_support();
  return doctest::Context(argc, argv).run();
}
