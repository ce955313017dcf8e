// The sweep: each program of victim.cpp runs with the first, second, ... system call of each kind failing with each errno that the kernel
// may give, one at a time, and then on the same objects without. Either it works, or a typed error names what failed; never a hang, a
// crash or a wrong result; afterwards it works.
//
//   MP_FAULTS_STEP="PROGRAM CALL ERRNO NTH" runs one step and prints what the victim printed; MP_FAULTS_ALL=1 all steps where a run of CI
//   takes some (kMost); MP_FAULTS_TABLE=FILE appends what users see to FILE.
#include "runner.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>

namespace {

using faults::Outcome;
using mp::os::Call;

struct Fault {
  Call call;
  int error;
  bool on = false;  // and from then on until it is gone
};

constexpr int kMost = 12;

// EINTR is met in each call: it must never be seen. The others are what the manual pages and container runtimes give.
std::vector<Fault> all_faults() {
  std::vector<Fault> faults;
  for (int c = 0; c < mp::os::kCalls; ++c) faults.push_back({static_cast<Call>(c), EINTR});
  auto add = [&](std::initializer_list<Call> calls, std::initializer_list<int> errors, bool on) {
    for (Call call : calls)
      for (int error : errors) {
        faults.push_back({call, error});
        if (on) faults.push_back({call, error, true});
      }
  };
  add({Call::fork}, {EAGAIN, ENOMEM}, true);
  add({Call::spawn}, {EAGAIN, ENOMEM}, true);
  add({Call::thread}, {EAGAIN}, true);
  add({Call::mmap}, {ENOMEM}, true);
  add({Call::mmap}, {EAGAIN}, false);
  add({Call::fallocate}, {ENOSPC}, true);
  add({Call::fallocate}, {ENOMEM}, false);
  add({Call::ftruncate}, {ENOSPC}, false);
  add({Call::open, Call::pipe, Call::eventfd, Call::memfd_create, Call::shm_open, Call::pidfd_open}, {EMFILE}, true);
  add({Call::open, Call::pipe, Call::eventfd, Call::memfd_create, Call::shm_open, Call::pidfd_open}, {ENFILE}, false);
  add({Call::pidfd_open, Call::memfd_create, Call::membarrier, Call::futex_waitv}, {EPERM, ENOSYS}, true);
  add({Call::ioctl}, {ENOTTY}, true);
  add({Call::open, Call::readlink, Call::stat, Call::statvfs, Call::shm_open, Call::link}, {ENOENT}, true);
  add({Call::shm_open}, {EROFS, EACCES}, true);
  add({Call::poll}, {ENOMEM}, false);
  add({Call::kill}, {EPERM}, false);
  add({Call::getrandom}, {ENOSYS}, true);
  add({Call::madvise, Call::mincore, Call::getaffinity}, {EPERM}, true);
  return faults;
}

std::string text_of(const Fault& fault, std::int64_t n) {
  return faults::name_of(fault.call) + (fault.on ? " from the " : " the ") + std::to_string(n) +
         "th on: " + std::strerror(fault.error);
}

struct Step {
  bool fired;
  std::string complaint;  // empty: as it should be
  Outcome seen;
  std::string text;
  std::int32_t descriptors;  // open when the objects are gone
  std::int64_t counts[mp::os::kCalls];
  std::string output;
};

// `descriptors`: how many are open at the end where nothing failed; 0: not known.
Step step(const std::string& program, const Fault& fault, std::int64_t nth, std::int32_t descriptors) {
  faults::SharedPlan plan;
  plan->call = static_cast<int>(fault.call);
  plan->error = fault.error;
  plan->on = fault.on;
  plan->nth = nth;
  const faults::Ended ended = faults::run_victim(program);
  Step s{.fired = plan->fired > 0,
         .complaint = {},
         .seen = plan->reports[0].outcome,
         .text = plan->reports[0].text,
         .descriptors = plan->descriptors,
         .counts = {},
         .output = ended.output};
  std::copy(std::begin(plan->counts), std::end(plan->counts), s.counts);
  auto complain = [&](const std::string& what) { s.complaint += "\n  " + what; };
  if (ended.hung) complain("it hung");
  else if (ended.code != 0) complain("it ended with " + std::to_string(ended.code));
  if (ended.orphans) complain("it left processes");
  const std::string reason = std::generic_category().message(fault.error);
  const auto tells = [&](const std::string& text) {
    return text.find(reason) != text.npos || text.find("shared memory is full") != text.npos;
  };
  switch (s.seen) {
    case Outcome::worked: break;
    case Outcome::typed:
      if (!tells(s.text) && !tells(s.output)) complain("the error does not name what failed: " + s.text);
      if (fault.error == EINTR) complain("a signal shows: " + s.text);
      break;
    case Outcome::child_failed:
      if (plan->fired_in == plan->victim) complain("a child failed, and not by the fault: " + s.text);
      if (!tells(s.output)) complain("a child failed and does not say why: " + s.text);
      if (fault.error == EINTR) complain("a signal shows: " + s.text);
      break;
    default: complain("the run with the fault went wrong: " + s.text);
  }
  for (int run : {1, 2})
    if (plan->reports[run].outcome != Outcome::worked)
      complain("run " + std::to_string(run + 1) + ", without the fault, went wrong: " + plan->reports[run].text);
  if (descriptors != 0 && s.descriptors != descriptors)
    complain(std::to_string(s.descriptors) + " descriptors are open instead of " + std::to_string(descriptors));
  if (!s.complaint.empty()) s.complaint += "\n  printed:\n" + s.output;
  return s;
}

// For the table of README.md.
void note(const std::string& program, const Fault& fault, const Step& s) {
  const char* file = std::getenv("MP_FAULTS_TABLE");
  if (file == nullptr) return;
  static std::set<std::string> known;
  const std::string seen = s.seen == Outcome::worked         ? "works"
                           : s.seen == Outcome::child_failed ? "child: " + s.text
                                                             : s.text;
  const std::string line = faults::name_of(fault.call) + '\t' + std::strerror(fault.error) +
                           (fault.on ? " (stays)" : "") + '\t' + program + '\t' + seen;
  if (known.insert(line).second) std::ofstream(file, std::ios::app) << line << '\n';
}

// "PROGRAM CALL ERRNO NTH", with CALL+ for a fault that stays.
void one_step(const std::string& program, const char* text) {
  std::string which, call;
  Fault fault{};
  std::int64_t nth = 0;
  std::istringstream(text) >> which >> call >> fault.error >> nth;
  if (which != program) return;
  if (call.ends_with('+')) fault.on = true, call.pop_back();
  for (int c = 0; c < mp::os::kCalls; ++c)
    if (call == faults::kCallNames[c]) fault.call = static_cast<Call>(c);
  const Step s = step(program, fault, nth, 0);
  MESSAGE(text_of(fault, nth), "\nfired ", s.fired, " outcome ", static_cast<int>(s.seen), ' ', s.text, s.complaint,
          '\n', s.output);
  CHECK(s.complaint.empty());
}

void sweep(const std::string& program) {
  if (const char* one = std::getenv("MP_FAULTS_STEP")) return one_step(program, one);
  const Step quiet = step(program, {Call::access, 0}, 0, 0);
  REQUIRE_MESSAGE(quiet.complaint.empty(), quiet.complaint);
  REQUIRE(quiet.seen == Outcome::worked);
  int steps = 0, fired = 0;
  const bool all = std::getenv("MP_FAULTS_ALL") != nullptr;
  for (const Fault& fault : all_faults()) {
    const std::int64_t count = quiet.counts[static_cast<int>(fault.call)];
    const std::int64_t stride = all || fault.on ? 1 : (count + kMost - 1) / kMost;
    for (std::int64_t n = 1; n <= count; n += stride) {
      if (fault.on && !all && n > 2) break;
      const Step s = step(program, fault, n, quiet.descriptors);
      ++steps;
      fired += s.fired;
      note(program, fault, s);
      CHECK_MESSAGE(s.complaint.empty(), program, ", ", text_of(fault, n), s.complaint);
    }
  }
  CHECK(fired > 0);
  MESSAGE(program, ": ", steps, " steps, in ", fired, " of them the fault was met");
}

}  // namespace

TEST_CASE("locks, a condition and an event bear faults of the kernel") { sweep("locks"); }
TEST_CASE("a barrier bears faults of the kernel") { sweep("barriers"); }
TEST_CASE("queues bear faults of the kernel") { sweep("queues"); }
TEST_CASE("pipes bear faults of the kernel") { sweep("pipes"); }
TEST_CASE("named shared memory bears faults of the kernel") { sweep("named"); }
TEST_CASE("arrays bear faults of the kernel") { sweep("arrays"); }
TEST_CASE("processes under fork bear faults of the kernel") { sweep("fork"); }
TEST_CASE("processes under spawn bear faults of the kernel") { sweep("spawn"); }
TEST_CASE("processes under forkserver bear faults of the kernel") { sweep("forkserver"); }
TEST_CASE("a pool bears faults of the kernel") { sweep("pool"); }
TEST_CASE("a pool under spawn bears faults of the kernel") { sweep("spawn-pool"); }
TEST_CASE("a pool whose worker dies bears faults of the kernel") { sweep("replaced"); }
TEST_CASE("pools and processes in each other bear faults of the kernel") { sweep("nested"); }
TEST_CASE("a thread pool bears faults of the kernel") { sweep("threads"); }
