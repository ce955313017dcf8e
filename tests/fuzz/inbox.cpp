// A process server's inbox and what its requests name: records that another process of the family wrote.
#include <algorithm>
#include <vector>

#include "fuzz.hpp"
#include "mp/memory/family.hpp"
#include "mp/pickle/pickle.hpp"
#include "mp/process/process.hpp"
#include "mp/process/record.hpp"

namespace {

using namespace mp::process;
namespace pickle = mp::pickle;
namespace memory = mp::memory;

void greet(pickle::Reader& in) { static_cast<void>(pickle::load<std::vector<std::string>>(in)); }

const std::vector<pickle::CodeRef>& codes() {
  static const auto refs = fuzz::functions(&greet);
  return refs;
}

constexpr unsigned kRequests = 4;

// Text fields that may not end, a bell and a payload that may be anything.
void damage_record(Record& record, fuzz::Input& in, const fuzz::Prey& prey) {
  for (auto* field : {&record.name, &record.identity, &record.parent_name})
    if (in.below(4) == 3) std::memset(*field, 'x', sizeof *field);
  record.bell = prey.choose(in, prey.small());
  record.bell_object = prey.choose(in, 0);
  record.payload.store(prey.choose(in, 0));
  record.status.store(in.get<std::uint32_t>());
}

// The list as the input links it. Each request is visited once at most, in the order of the list, and read to a damaged link.
void walk(fuzz::Input& in, const fuzz::Prey& prey) {
  const memory::Ref server = make_record();
  memory::Ref requests[kRequests];
  for (auto& request : requests) {
    request = make_record();
    memory::retain(request.offset());  // the inbox's
  }
  const auto any = [&] {
    const unsigned which = in.below(kRequests + 3);
    if (which < kRequests) return requests[which].offset();
    return which == kRequests ? fuzz::memory_offset{0} : which == kRequests + 1 ? server.offset() : prey.choose(in, 0);
  };
  server.as<Record>().inbox.store(any());
  for (auto& request : requests) request.as<Record>().next = any();
  if (in.below(2) == 1) damage_record(requests[0].as<Record>(), in, prey);

  std::vector<memory::Offset> visited;
  const bool whole = walk_inbox(server.as<Record>(), [&](memory::Offset offset, Record& record) {
    const bool again = std::find(visited.begin(), visited.end(), offset) != visited.end();
    if (again || !memory::is_object(offset, memory::Kind::record)) std::abort();
    visited.push_back(offset);
    static_cast<void>(std::string(text_of(record.name)) + std::string(text_of(record.identity)) +
                      std::string(text_of(record.parent_name)));
    move_on(record, Phase::requested, make_status(Phase::abandoned));
    if (offset != server.offset()) memory::release(offset);
  });
  if (server.as<Record>().inbox.load() != 0) std::abort();
  static_cast<void>(whole);
  for (auto& request : requests)  // those that were not reached
    if (std::find(visited.begin(), visited.end(), request.offset()) == visited.end()) memory::release(request.offset());
}

// What a process of spawn or forkserver is to call.
void call(fuzz::Input& in, const fuzz::Prey& prey) {
  const unsigned carried = in.below(3);
  const auto sizes = in.get<std::uint8_t>();
  const std::uint64_t wrong_carried = in.get<std::uint64_t>(), wrong_size = in.get<std::uint64_t>();
  const memory::Ref object = memory::create<int>(memory::Kind::value, 0, 0, 1);
  const fuzz::memory_offset named = prey.choose(in, 0);
  pickle::Writer w;
  const fuzz::Bytes rest = in.rest();
  w.write(rest.data(), rest.size());
  for (unsigned i = 0; i < carried; ++i) w.carry(object.offset());
  const memory::Ref ref = make_call(&greet, w);
  // Behind the code: how many objects it names, and the size of its message.
  auto* counts = memory::at<std::uint64_t>(ref.offset() + sizeof(mp::os::ModuleAddress));
  const std::uint64_t right[] = {counts[0], counts[1]};
  if (sizes & 1) counts[0] = wrong_carried;
  if (sizes & 2) counts[1] = wrong_size;
  fuzz::refused([&] { run_call(sizes & 4 ? named : ref.offset()); });
  counts[0] = right[0];  // what it carries is its own again
  counts[1] = right[1];
}

}  // namespace

std::vector<fuzz::Seed> fuzz::seeds() {
  constexpr std::uint8_t walks = 0, calls = 1, none = 0;
  pickle::Writer texts;
  pickle::dump(texts, std::vector<std::string>{"a", "bc"});
  const auto list = [&](std::uint8_t inbox, std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
    return raw(walks, inbox, a, b, c, d, none);
  };
  return {
      {"four-requests", list(0, 1, 2, 3, 4)},
      {"empty", list(4, 4, 4, 4, 4)},
      {"leads-back-to-its-first", list(0, 1, 2, 3, 0)},
      {"leads-to-itself", list(0, 0, 4, 4, 4)},
      {"leads-to-the-server", list(0, 1, 5, 3, 4)},
      {"leads-into-a-block", list(0, 6, 2, 3, 4) + raw(std::uint8_t{2}, std::uint16_t{16})},
      {"damaged-record",
       raw(walks, none, std::uint8_t{4}, none, none, none, std::uint8_t{1}, std::uint8_t{3}, std::uint8_t{3},
           std::uint8_t{3}, std::uint8_t{1}, std::uint8_t{3}, std::uint8_t{2}, std::uint16_t{8})},
      {"call", raw(calls, std::uint8_t{2}, none, std::uint64_t{0}, std::uint64_t{0}, std::uint8_t{4}) +
                   portable(texts.bytes())},
      {"call-that-carries-too-much",
       raw(calls, std::uint8_t{2}, std::uint8_t{1}, std::uint64_t{1} << 61, std::uint64_t{0}, std::uint8_t{4})},
      {"call-that-is-too-long",
       raw(calls, std::uint8_t{0}, std::uint8_t{2}, std::uint64_t{0}, ~std::uint64_t{0}, std::uint8_t{4})},
      {"call-that-is-none", raw(calls, std::uint8_t{0}, std::uint8_t{4}, std::uint64_t{0}, std::uint64_t{0},
                                std::uint8_t{2}, std::uint16_t{64})},
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size, codes()[0]);
  const fuzz::Prey prey;
  if (in.below(2) == 0) walk(in, prey);
  else call(in, prey);
  return 0;
}
