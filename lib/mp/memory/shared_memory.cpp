#include "mp/memory/shared_memory.hpp"

#include <sys/mman.h>
#include <sys/random.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "mp/errors.hpp"
#include "mp/os/call.hpp"
#include "mp/os/limit.hpp"
#include "mp/os/shm.hpp"

namespace mp {
namespace {

std::string checked(const std::string& given) {
  std::string name = given.substr(given.starts_with('/') ? 1 : 0);
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos)
    throw ValueError("'" + name + "' is no name of shared memory: one word, with neither slash nor NUL in it");
  return name;
}

std::string random_name() {
  std::uint64_t number = 0;
  if (os::call_again(os::Call::getrandom, [&] { return ::getrandom(&number, sizeof number, 0); }) != sizeof number)
    throw OSError(errno, "getrandom", "for the name of shared memory");
  char text[24];
  std::snprintf(text, sizeof text, "mp_%016llx", static_cast<unsigned long long>(number));
  return text;
}

[[noreturn]] void fail(int error, const char* call, const std::string& name, std::size_t size) {
  if ((error == ENOSPC || error == ENOMEM) && std::strcmp(call, "mmap") != 0) {
    auto [used, allowed] = os::shared_memory_space();
    throw SharedMemoryFull(size, used, allowed);
  }
  throw os::refused(error, call, "shared memory '" + name + "'");
}

}  // namespace

SharedMemory::SharedMemory(const std::optional<std::string>& name, bool create, std::size_t size) {
  if (!create && !name) throw ValueError("shared memory is attached to by its name, or made with create = true");
  if (create && size == 0) throw ValueError("new shared memory has a size above 0");
  if (name) name_ = checked(*name);
  os::UniqueFd fd;
  if (!create) {
    fd = os::open_named_shared_memory(name_);
  } else if (name) {
    fd = os::create_named_shared_memory(name_, size);
  } else {
    do {
      name_ = random_name();
      fd = os::create_named_shared_memory(name_, size);
    } while (!fd && errno == EEXIST);
  }
  if (!fd) fail(errno, create ? "create" : "open", name_, size);
  long long there = create ? static_cast<long long>(size) : os::size_of(fd.get());
  if (there < 0) fail(errno, "fstat", name_, size);
  if (there == 0) throw ValueError("shared memory '" + name_ + "' is empty: whoever makes it has not given it a size");
  size_ = static_cast<std::size_t>(there);
  auto place = os::call_again(os::Call::mmap, [&] {
    return reinterpret_cast<std::intptr_t>(::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
  });
  if (place == -1) {
    int error = errno;
    if (create) os::unlink_named_shared_memory(name_);
    fail(error, "mmap", name_, size_);
  }
  bytes_ =
      std::shared_ptr<std::byte[]>(reinterpret_cast<std::byte*>(place), [n = size_](std::byte* p) { ::munmap(p, n); });
}

std::shared_ptr<std::byte[]> SharedMemory::view() const {
  if (!bytes_) throw ValueError("shared memory '" + name_ + "' is closed");
  return bytes_;
}

void SharedMemory::unlink() {
  if (int error = os::unlink_named_shared_memory(name_))
    throw OSError(error, "shm_unlink", "shared memory '" + name_ + "'");
}

}  // namespace mp
