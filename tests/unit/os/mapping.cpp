// Mapping pages ahead of their first use.
#include <mp/os/mapping.hpp>

#include <doctest/doctest.h>

#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstddef>

#include <mp/os/call.hpp>
#include <mp/os/fd.hpp>
#include <mp/os/shm.hpp>

namespace {

constexpr std::size_t kPage = 4096, kPages = 256, kSize = kPage * kPages;

// Committed shared memory that nobody has touched.
class Fresh {
 public:
  Fresh() : fd_(mp::os::create_shared_memory(kSize)) {
    REQUIRE(mp::os::commit(fd_.get(), 0, kSize) == 0);
    void* p = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    REQUIRE(p != MAP_FAILED);
    begin = static_cast<std::byte*>(p);
  }
  ~Fresh() { ::munmap(begin, kSize); }
  std::byte* begin;

  // Page faults of writing to each page.
  long faults_of_writing() {
    const long before = faults();
    write_to_each_page();
    return faults() - before;
  }

 private:
  // Sanitizers have memory of their own for it, which is new as well.
  [[gnu::no_sanitize("address"), gnu::no_sanitize("thread")]] void write_to_each_page() {
    for (std::size_t i = 0; i < kPages; ++i) *const_cast<volatile std::byte*>(begin + i * kPage) = std::byte{1};
  }
  static long faults() {
    rusage usage{};
    REQUIRE(::getrusage(RUSAGE_THREAD, &usage) == 0);
    return usage.ru_minflt;
  }
  mp::os::UniqueFd fd_;
};

bool kernel_knows_how() {
  Fresh fresh;
  return ::madvise(fresh.begin, kSize, 23) == 0 || errno != EINVAL;
}

}  // namespace

TEST_CASE("memory that was mapped to be written is written without a page fault") {
  if (!kernel_knows_how()) {
    MESSAGE("skipped: this kernel maps nothing ahead");
    return;
  }
  Fresh touched, mapped;
  mp::os::map_to_write(mapped.begin, kSize);
  const long without = touched.faults_of_writing(), with = mapped.faults_of_writing();
  CHECK(without >= static_cast<long>(kPages) / 16);  // where a fault brings neighbours with it
  CHECK(with <= 4);
}

TEST_CASE("memory can be written as well where mapping it ahead is refused") {
  Fresh fresh;
  mp::os::fault_hook = +[](mp::os::Call call) noexcept { return call == mp::os::Call::madvise ? EPERM : 0; };
  mp::os::map_to_write(fresh.begin, kSize);
  mp::os::fault_hook = nullptr;
  CHECK(fresh.faults_of_writing() > 0);
  for (std::size_t i = 0; i < kPages; ++i) CHECK(fresh.begin[i * kPage] == std::byte{1});
}
