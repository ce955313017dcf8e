// Task slots: a worker runs a slot that the owner's side wrote, the owner reads what a worker left in it, and a worker is told by its
// start what to work at.
#include "fuzz.hpp"
#include "mp/memory/family.hpp"
#include "mp/pickle/pickle.hpp"
#include "mp/pool/failure.hpp"
#include "mp/pool/limits.hpp"
#include "mp/pool/task_board.hpp"
#include "mp/pool/worker.hpp"

namespace {

using namespace mp::pool;
namespace pickle = mp::pickle;
namespace memory = mp::memory;

// What a slot of this program names as its code: functions that read what is there.
void doubled(pickle::Reader& in, pickle::Writer& out) { pickle::dump(out, 2.0 * pickle::load<int>(in)); }
void joined(pickle::Reader& in, pickle::Writer& out) {
  std::string all;
  for (const std::string& text : pickle::load<std::vector<std::string>>(in)) all += text;
  pickle::dump(out, all);
}
void thrown(pickle::Reader& in, pickle::Writer&) { throw std::runtime_error(pickle::load<std::string>(in)); }
void large(pickle::Reader&, pickle::Writer& out) { pickle::dump(out, std::string(1000, 'x')); }

const std::vector<pickle::CodeRef>& codes() {
  static const auto refs = fuzz::functions(&doubled, &joined, &thrown, &large);
  return refs;
}

// A board with one slot posted and one worker.
struct Board {
  memory::Ref ref = memory::create<TaskBoard>(memory::Kind::board, 0, sizeof(WorkerEntry), 1u, 1u);
  TaskBoard& board = ref.as<TaskBoard>();
  Slot& slot;
  Board() : slot((new(&ref.as<TaskBoard>().worker(0)) WorkerEntry{}, ref.as<TaskBoard>().grow(), board.slot(0))) {}
  WorkerEntry& entry() { return board.worker(0); }
};

enum What : std::uint8_t { run, read_result, claim, start, kinds };

// The slot's fields but its state word.
void fill(Slot& slot, fuzz::Input& in, const fuzz::Prey& prey) {
  slot.outcome = in.get<Outcome>();
  slot.attempts_left = in.get<std::uint8_t>() % 4;
  slot.rare = in.get<std::uint8_t>();
  const unsigned which = in.below(8);
  slot.run =
      which < codes().size() ? codes()[which] : pickle::CodeRef{in.get<std::uint64_t>(), in.get<std::uint64_t>()};
  if (which >= codes().size() && !fuzz::refused([&] { static_cast<void>(pickle::code_address(slot.run)); }))
    slot.run = codes()[0];  // any code of the program passes for a function: see lib/SECURITY.md
  slot.argument_bytes = in.get<std::uint8_t>();
  slot.result_bytes = in.get<std::uint8_t>();
  // Limits that can be read would be imposed on this process.
  slot.limits = in.get<std::uint64_t>();
  if (memory::array_at<Limits>(slot.limits, 1) != nullptr) slot.limits = 0;
  for (Parcel* parcel : {&slot.arguments, &slot.result}) {
    const auto size = in.get<std::uint32_t>(), carried = in.get<std::uint32_t>();
    *parcel = {size, carried, prey.choose(in, prey.small())};
  }
  const fuzz::Bytes place = in.take(kInline);
  if (!place.empty()) std::memcpy(slot.place, place.data(), place.size());
  // The parcels' bytes, in whichever block they lie.
  const fuzz::Bytes rest = in.rest();
  const std::size_t size = std::min<std::size_t>(rest.size(), 1000);
  if (size == 0) return;
  for (const fuzz::memory_offset block : {prey.small(), prey.large()}) {
    std::memcpy(memory::at<void>(block), rest.data(), size);
    prey.tame(block, size);
  }
}

void run_task(Board& b, fuzz::Input& in, const fuzz::Prey& prey) {
  fill(b.slot, in, prey);
  perform(b.slot, b.entry());
  if (b.slot.outcome == Outcome::value) fuzz::refused([&] { static_cast<void>(b.slot.result_payload()); });
  else static_cast<void>(load_failure(b.slot, 1, "task"));
}

void read_task(Board& b, fuzz::Input& in, const fuzz::Prey& prey) {
  fill(b.slot, in, prey);
  if (b.slot.outcome == Outcome::value) {
    fuzz::refused([&] {
      pickle::Reader result(b.slot.result_payload());
      static_cast<void>(pickle::load<std::vector<std::string>>(result));
    });
  } else if (load_failure(b.slot, 1, "task") == nullptr) {
    std::abort();
  }
}

// A line that names anything: the worker finds the one slot that is posted, or, where the table of the line itself is damaged, none.
void claim_task(Board& b, fuzz::Input& in, const fuzz::Prey& prey) {
  b.board.post(0, 1);
  // The table of the line's segments is the last of the board's members.
  using Word = std::atomic<std::uint64_t>;
  Word& first_segment = reinterpret_cast<Word*>(&b.board + 1)[-static_cast<std::ptrdiff_t>(TaskBoard::kLineSegments)];
  const std::uint64_t entry = first_segment.load();
  Word* places = memory::array_at<Word>(entry, 1);
  const std::uint64_t posted = places[0].load();
  const unsigned wrong = in.below(8);
  for (unsigned i = 0; i < wrong; ++i) {
    const auto word = in.get<std::uint64_t>();
    places[i].store(word != 0 ? word : ~std::uint64_t{0});  // 0 would be: not yet
  }
  places[wrong].store(posted);
  const bool is_damaged = in.below(4) == 3;
  if (is_damaged) first_segment.store(prey.choose(in, entry) & ((std::uint64_t{1} << 38) - 1));
  b.board.close(false);
  std::uint32_t index = 0, found = 0;
  while (b.board.claim(0, index) == TaskBoard::Claim::got) {
    found += index == 0;
    b.board.publish(index);
  }
  if (found != 1 && !is_damaged) std::abort();
  first_segment.store(entry);
}

void start_worker(Board& b, fuzz::Input& in, const fuzz::Prey& prey) {
  b.board.close(true);
  const memory::Ref ref = memory::create<WorkerStart>(memory::Kind::engine, 0, 0);
  WorkerStart& told = ref.as<WorkerStart>();
  told.board = prey.choose(in, b.ref.offset());
  told.index = in.get<std::uint32_t>() >> in.below(32);
  told.most_tasks = in.get<std::uint64_t>();
  told.initializer = in.below(2) == 0 ? pickle::CodeRef{} : codes()[in.below(static_cast<unsigned>(codes().size()))];
  told.initializer_block = prey.choose(in, prey.small());
  told.initializer_size = in.get<std::uint32_t>();
  fuzz::refused([&] { work(prey.choose(in, ref.offset())); });
}

template <class T>
std::string slot_seed(What what, Outcome outcome, std::uint8_t code, const T& value, std::uint8_t rare = 0,
                      std::uint8_t where = 0) {
  pickle::Writer w;
  pickle::dump(w, value);
  const auto size = static_cast<std::uint32_t>(w.size());
  // arguments and result: size, carried, where
  const auto in_place = static_cast<std::uint8_t>(size);
  std::string seed = fuzz::raw(what, outcome, std::uint8_t{0}, rare, code, in_place, in_place, std::uint64_t{0});
  for (int i = 0; i < 2; ++i) seed += fuzz::raw(size, std::uint32_t{0}, where);
  std::string place = fuzz::portable(w.bytes());
  place.resize(kInline);
  return seed + place + fuzz::portable(w.bytes());
}

}  // namespace

std::vector<fuzz::Seed> fuzz::seeds() {
  const std::vector<std::string> texts{"a", "bc"};
  pickle::Writer failure;
  try {
    throw std::out_of_range("oops");
  } catch (...) {
    dump_failure(failure);
  }
  std::string failed = slot_seed(read_result, Outcome::exception, 0, std::string(), rare::kResult);
  failed += portable(failure.bytes());
  return {
      {"run-in-place", slot_seed(run, Outcome::value, 0, 21)},
      {"run-from-a-block", slot_seed(run, Outcome::value, 1, texts, rare::kArguments)},
      {"run-that-throws", slot_seed(run, Outcome::value, 2, std::string("oops"))},
      {"run-with-a-large-result", slot_seed(run, Outcome::value, 3, 0)},
      {"run-unknown-code", slot_seed(run, Outcome::value, 7, 0)},
      {"result-in-place", slot_seed(read_result, Outcome::value, 0, texts)},
      {"result-in-a-block", slot_seed(read_result, Outcome::value, 0, texts, rare::kResult)},
      {"result-that-failed", failed},
      {"line-with-garbage",
       raw(claim, std::uint8_t{3}, std::uint64_t{0x700000001}, std::uint64_t{0x7ffffffff}, ~std::uint64_t{0})},
      {"worker-start", raw(start, std::uint8_t{0}, std::uint32_t{0}, std::uint8_t{0}, std::uint64_t{1}, std::uint8_t{1},
                           std::uint8_t{0}, std::uint8_t{0}, std::uint32_t{4}, std::uint8_t{0})},
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(data, size, codes()[0]);
  static Board& kept = *new Board;  // its segments are large
  const fuzz::Prey prey;
  become_worker(kept.entry());
  switch (in.below(kinds)) {
    case run: run_task(kept, in, prey); break;
    case read_result: read_task(kept, in, prey); break;
    case claim: {
      Board board;
      claim_task(board, in, prey);
      break;
    }
    default: {
      Board board;
      start_worker(board, in, prey);
      break;
    }
  }
  kept.slot.discard_rare();
  return 0;
}
