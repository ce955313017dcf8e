// Chunks of a map: a worker runs one of a job that another process wrote, the owner reads what failed in it, and the job is destroyed.
#include "fuzz.hpp"
#include "mp/pickle/pickle.hpp"
#include "mp/pool/failure.hpp"
#include "mp/pool/job.hpp"
#include "mp/pool/process_map.hpp"
#include "mp/pool/worker.hpp"

namespace {

using namespace mp::pool;
namespace pickle = mp::pickle;
namespace memory = mp::memory;

constexpr std::uint64_t kItems = 16;

int plain(int x) { return x + 1; }
std::string text(const std::string& x) { return x + "!"; }
void nothing(int x) {
  if (x == 3) throw std::runtime_error("three");
}

using Chunk = void (*)(pickle::Reader&, pickle::Writer&);
constexpr Chunk kChunks[] = {
    &run_chunk<false, int (*)(int), int, true>,
    &run_chunk<false, int (*)(int), int, false>,
    &run_chunk<false, std::string (*)(const std::string&), std::string, false>,
    &run_chunk<false, void (*)(int), int, true>,
};
// What such a chunk calls: any other function of the program would pass as well (lib/SECURITY.md), but have another type.
template <class F>
Parcel function_parcel(F* f) {
  pickle::Writer w;
  pickle::dump_callable(w, f);
  Parcel parcel;
  seal(w, nullptr, parcel);
  return parcel;
}
Parcel function_of(unsigned chunk) {
  return chunk < 2 ? function_parcel(&plain) : chunk == 2 ? function_parcel(&text) : function_parcel(&nothing);
}

}  // namespace

std::vector<fuzz::Seed> fuzz::seeds() {
  constexpr std::uint8_t good = 0;
  // chunk; which fields are wrong; head: job, begin, end
  const auto head = [&](std::uint8_t chunk, std::uint8_t wrong, std::uint64_t begin, std::uint64_t end) {
    return raw(chunk, wrong, good, begin, end);
  };
  pickle::Writer ints, texts;
  for (int i = 0; i < 4; ++i) {
    write_item(ints, i);
    write_item(texts, std::string("abc"));
  }
  return {
      {"array-to-array", head(0, 0, 0, kItems)},
      {"items-to-array", head(1, 0, 4, 8) + portable(ints.bytes())},
      {"items-to-cells", head(2, 0, 0, 4) + portable(texts.bytes())},
      {"array-to-nothing-with-failure", head(3, 0, 0, kItems)},
      {"too-many-items", head(0, 1, 0, 1u << 20) + raw(std::uint64_t{1} << 20)},
      {"wrong-output", head(0, 2, 0, kItems) + raw(std::uint8_t{5}, std::uint16_t{1})},
      {"wrong-input", head(0, 4, 0, kItems) + raw(std::uint8_t{2}, std::uint16_t{19'999})},
      {"wrong-failures", head(3, 8, 0, kItems) + raw(std::uint8_t{2}, std::uint16_t{8})},
      {"wrong-function",
       head(0, 16, 0, kItems) + raw(std::uint32_t{100}, std::uint32_t{1}, std::uint8_t{2}, std::uint16_t{19'990})},
      {"ends-before-it-begins", head(0, 0, 8, 4)},
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size);
  static WorkerEntry& entry = *new WorkerEntry{};
  become_worker(entry);
  const fuzz::Prey prey;
  const unsigned chunk = in.below(std::size(kChunks));
  const std::uint8_t wrong = in.get<std::uint8_t>();
  const bool cells = chunk == 2;

  memory::Ref ref = create_job(kItems, Limits());
  Job& job = ref.as<Job>();
  job.function = function_of(chunk);
  job.input = memory::allocate(kItems * sizeof(int), 64);
  job.own_input = 1;
  job.output = memory::allocate(kItems * sizeof(Cell), 64);
  job.cells = cells;
  std::memset(memory::at<void>(job.output), 0, kItems * sizeof(Cell));
  for (std::uint64_t i = 0; i < kItems; ++i) memory::at<int>(job.input)[i] = static_cast<int>(i);
  const struct {
    Parcel function;
    memory::Offset input, output;
  } right{job.function, job.input, job.output};

  const ChunkHead head{prey.choose(in, ref.offset()), in.get<std::uint64_t>(), in.get<std::uint64_t>()};
  if (wrong & 1) job.items = in.get<std::uint64_t>();
  if (wrong & 2) job.output = prey.choose(in, right.output);
  if (wrong & 4) job.input = prey.choose(in, right.input);
  if (wrong & 8) {
    // A list that may lead back to itself, or anywhere.
    job.failures.store(prey.choose(in, 0));
    auto* failure = new (memory::at<void>(prey.small() + 8)) Failure{};
    failure->next = prey.choose(in, prey.small() + 8);
    failure->item = in.get<std::uint64_t>();
    const auto bytes = in.get<std::uint32_t>(), carried = in.get<std::uint32_t>();
    failure->parcel = {bytes, carried, prey.choose(in, prey.large())};
  }
  if (wrong & 16) {
    const auto bytes = in.get<std::uint32_t>(), carried = in.get<std::uint32_t>();
    job.function = {bytes, carried, prey.choose(in, right.function.block)};
  }
  if (wrong & 32) {
    auto* cell = memory::at<Cell>(right.output);
    const auto bytes = in.get<std::uint32_t>(), carried = in.get<std::uint32_t>();
    cell->parcel = {bytes, carried, prey.choose(in, prey.small())};
  }

  pickle::Writer arguments;
  arguments.write(&head, sizeof head);
  const fuzz::Bytes rest = in.rest();
  arguments.write(rest.data(), rest.size());
  pickle::Reader reader(arguments.bytes());
  pickle::Writer out;
  fuzz::refused([&] { kChunks[chunk](reader, out); });

  // The owner's side: it knows how many items there are and where they are.
  for (std::uint64_t i = 0; i < kItems; ++i)
    if (const Parcel parcel = failure_of(job, i, kItems); parcel.size != 0)
      static_cast<void>(load_failure(parcel, i, {}));
  if (cells) {
    for (std::uint64_t i = 0; i < kItems; ++i) {
      Cell& cell = memory::at<Cell>(right.output)[i];
      fuzz::refused([&] { static_cast<void>(payload(cell.parcel, cell.place)); });
    }
  }

  // What the damaged job no longer names is given back here.
  ref = {};
  Parcel function = right.function;
  if (memory::block_size(function.block) != 0 && (wrong & 16)) discard(function);
  for (const memory::Offset block : {right.input, right.output})
    if (wrong & 6) memory::try_deallocate(block);
  return 0;
}
