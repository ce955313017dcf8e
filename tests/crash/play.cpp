#include "play.hpp"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <random>
#include <thread>
#include <unordered_map>

#include "mp/memory/arena.hpp"
#include "mp/memory/family.hpp"
#include "mp/os/cpu.hpp"
#include "mp/os/symbol.hpp"
#include "stepper.hpp"

namespace crash {
namespace {

template <class T>
T* shared() {
  void* place = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) std::perror("mmap"), std::abort();
  return new (place) T();
}

}  // namespace

Stage* const stage = shared<Stage>();

void nap() { ::usleep(100); }

void await_stepper() {
  stage->tag.store(mp::memory::self(), std::memory_order_relaxed);
  stage->pid.store(::getpid(), std::memory_order_seq_cst);
  while (!stage->may_go.load(std::memory_order_seq_cst)) nap();
}

// ---- peers ---------------------------------------------------------------------------------------------------------

Peer::Peer(std::function<void()> f) : report_(shared<Report>()), pid_(::fork()) {
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ == 0) {
    pin_elsewhere();
    report_->tag = mp::memory::self();
    int code = 0;
    try {
      f();
    } catch (const std::exception& e) {
      std::snprintf(report_->text, sizeof report_->text, "%s", e.what());
      code = 1;
    }
    ::_exit(code);
  }
}

bool Peer::reap(int options) {
  if (ended_) return true;
  pid_t got;
  do got = ::waitpid(pid_, &status_, options);
  while (got < 0 && errno == EINTR);
  ended_ = got != 0;
  return ended_;
}

bool Peer::running() { return !reap(WNOHANG); }

void Peer::finish(const std::string& what) {
  await([&] { return !running(); }, what);
  if (WIFSIGNALED(status_)) throw Violation(what + ": ended by signal " + std::to_string(WTERMSIG(status_)));
  if (WEXITSTATUS(status_) != 0) throw Violation(what + ": " + report_->text);
}

void Peer::await_sleep() {
  await(
      [&] {
        if (!running()) return true;
        std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
        std::string text;
        std::getline(file, text);
        const auto close = text.rfind(')');
        return close != std::string::npos && text.compare(close, 4, ") S ") == 0;
      },
      "a peer that should come to sleep");
}

Peer::~Peer() {
  if (!ended_) {
    ::kill(pid_, SIGKILL);
    reap(0);
  }
  if (mp::memory::Tag tag = report_->tag.load()) mp::memory::retire(tag);
  ::munmap(report_, sizeof *report_);
}

// ---- the play ------------------------------------------------------------------------------------------------------

void Report::say(const std::string& what) {
  const int i = texts.load();
  if (i < kTexts) {
    std::snprintf(text[i].text, sizeof text[i].text, "%s", what.c_str());
    texts.store(i + 1);
  }
}

std::string place_of(std::uint64_t address) {
  Dl_info info{};
  if (!address || !::dladdr(reinterpret_cast<void*>(address), &info) || !info.dli_fname) return "?";
  mp::os::Symboliser symbols;
  const auto offset = address - reinterpret_cast<std::uint64_t>(info.dli_fbase);
  std::string text;
  for (const mp::os::Line& line : symbols.lines_at(info.dli_fname, offset)) {
    if (!text.empty()) text += " in ";
    text += (line.function.empty() ? line.module : line.function) +
            (line.file.empty() ? "" : " " + line.file + ":" + std::to_string(line.line));
  }
  return text;
}

namespace {

using Clock = std::chrono::steady_clock;

// After so many instructions of an operation at most a kill may leak something, lib/mp/memory/README.md says what.
constexpr long kMostLeaks = 64;

// As sweep() does, but at once.
void bury_all() {
  for (mp::memory::Tag index = 1; index < mp::memory::kMaxMembers; ++index) {
    const std::uint64_t generation = mp::memory::member(index).state.load() >> 8 & 0x7ffff;
    if (generation) mp::memory::retire(index | static_cast<mp::memory::Tag>(generation) << 12);
  }
}

struct Instruction {
  std::uint64_t address;
  bool sleeps;  // did when the operation was rehearsed
};

// A kill: after `step` instructions, or asleep inside the next.
struct Point {
  long step;
  bool asleep;
};

class Player {
 public:
  Player(const Scene& scene, const Plan& plan, Report& report) : scene_(scene), plan_(plan), report_(report) {}

  void all() {
    // Whatever is made once a process is there before anything is measured, and what a first use costs is paid.
    for (int i = 0; i < 2; ++i) rehearse(false);
    rehearse(true);
    std::vector<Point> points = choose();
    report_.points = static_cast<long>(points.size());
    const auto start = Clock::now();
    const auto used = static_cast<long>(mp::memory::bytes_in_use());
    for (long i = report_.next_point; i < static_cast<long>(points.size()); ++i) {
      report_.next_point = i + 1;
      one(points[static_cast<std::size_t>(i)]);
      if (Clock::now() - start > plan_.limit) break;
    }
    if (report_.leaks == 0 || plan_.sample > 0) return;
    // The place of a process that was about to be started is kept for five seconds, should it still come.
    doing("waiting for places that are kept");
    std::this_thread::sleep_for(5500ms);
    bury_all();
    report_.leaked = static_cast<long>(mp::memory::bytes_in_use()) - used;
    const long objects = report_.leaked / std::max(1l, report_.most_leaked.load());
    if (objects > kMostLeaks)
      complain("leaks " + std::to_string(objects) + " things, where " + std::to_string(kMostLeaks) + " are documented");
  }

 private:
  std::vector<Point> choose() {
    std::vector<Point> points, asleep;
    long instructions = 0;
    for (std::size_t i = 0, begin = 0; i <= trace_.size(); ++i) {
      const auto same = [&](std::size_t k) { return k < trace_.size() && trace_[k].address == trace_[i].address; };
      if (i == trace_.size() || i == 0 || !same(i - 1)) begin = i, ++instructions;
      // Of an instruction that repeats itself (rep movs) the first round, the last, and those whose number is a power of two.
      const std::size_t round = i - begin;
      if (i == trace_.size() || (round & (round - 1)) == 0 || !same(i + 1))
        points.push_back({static_cast<long>(i), false});
      if (i < trace_.size() && trace_[i].sleeps) asleep.push_back({static_cast<long>(i), true});
    }
    report_.instructions = instructions - 1;
    std::mt19937_64 random(plan_.seed);
    std::shuffle(points.begin(), points.end(), random);
    if (plan_.sample > 0 && static_cast<long>(points.size()) > plan_.sample)
      points.resize(static_cast<std::size_t>(plan_.sample));
    if (plan_.sample > 0 && asleep.size() > 2) asleep.resize(2);
    points.insert(points.begin(), asleep.begin(), asleep.end());
    return points;
  }

  // The victim, standing before the operation's first instruction.
  struct Victim {
    Act act;
    std::unique_ptr<Stepped> process;
    bool slept = false;
  };

  void doing(const char* what) {
    report_.doing = what;
    ++report_.beat;
  }

  void start(Victim& victim) {
    doing("making the objects");
    new (stage) Stage();
    victim.act = scene_.make();
    doing("starting the victim");
    if (victim.act.victim) {
      victim.process = std::make_unique<Stepped>(victim.act.victim(), victim.act.exits);
    } else {
      victim.process = std::make_unique<Stepped>([&act = victim.act] {
        if (act.prepare) act.prepare();
        stage->tag.store(mp::memory::self(), std::memory_order_relaxed);
        ::raise(SIGSTOP);
        begin();
        act.operation();
        end();
      });
    }
    if (victim.act.before) victim.act.before();
    doing("stepping the victim");
  }

  // What a step or a run came to; lets the survivor do its part when the victim sleeps for the first time.
  Stepped::Stop settle(Victim& victim, Stepped::Stop stop) {
    while (stop == Stepped::Stop::sleeps && !stage->over) {
      if (!victim.slept && victim.act.unblock) {
        victim.slept = true;
        victim.act.unblock();
      }
      victim.slept = true;
      ++report_.beat;
      stop = victim.process->go_on();
    }
    if (stop == Stepped::Stop::ended && victim.act.exits) {
      end();
      return stop;
    }
    if (stop == Stepped::Stop::ended)
      throw Violation("the victim ended by itself, status " + std::to_string(victim.process->status()));
    return stop;
  }

  // To the first instruction.
  void to_begin(Victim& victim) {
    Stepped& process = *victim.process;
    if (stage->begun) return;
    if (!trace_.empty() && process.set_breakpoint(trace_[0].address)) {
      do settle(victim, process.go());
      while (!stage->begun);
      process.clear_breakpoint();
      return;
    }
    while (!stage->begun) settle(victim, process.step());
  }

  // Plays it without a kill in the middle; `learn`: and writes down its instructions.
  void rehearse(bool learn) {
    try {
      Victim victim;
      std::vector<Instruction> trace;
      trace_.clear();
      start(victim);
      to_begin(victim);
      while (learn && !stage->over) {
        Instruction now{victim.process->next_address(), false};
        Stepped::Stop stop = victim.process->step();
        now.sleeps = stop == Stepped::Stop::sleeps;
        settle(victim, stop);
        trace.push_back(now);
        if (trace.size() % 256 == 0) ::usleep(50), ++report_.beat;
        if (trace.size() > 3'000'000) throw Violation("more than 3 million instructions");
      }
      if (!learn) {
        Stepped::Stop stop = Stepped::Stop::stopped;
        while (!stage->over && stop != Stepped::Stop::ended) stop = settle(victim, victim.process->go());
      }
      trace_ = std::move(trace);
      index();
      report_.step = static_cast<long>(trace_.size());
      report_.address = 0;
      finish(victim);
    } catch (const std::exception& e) {
      complain(std::string("without a kill: ") + e.what());
    }
  }

  // Where each address comes how often before which step: to find the cheapest way to a step.
  void index() {
    nth_.assign(trace_.size(), 0);
    std::unordered_map<std::uint64_t, std::uint32_t> seen;
    for (std::size_t i = 0; i < trace_.size(); ++i) nth_[i] = seen[trace_[i].address]++;
  }

  // Before instruction `step`. False if the operation was over first.
  bool to_step(Victim& victim, long step) {
    to_begin(victim);
    Stepped& process = *victim.process;
    long at = 0;
    const auto last = std::min<long>(step, static_cast<long>(trace_.size()) - 1);
    // The breakpoint from which the fewest stops lead there.
    long best = -1, cost = step;
    for (long i = last; i > 0 && last - i < cost; --i) {
      const long through = static_cast<long>(nth_[static_cast<std::size_t>(i)]) + 1 + (step - i);
      if (through < cost) best = i, cost = through;
    }
    if (best > 0 && process.set_breakpoint(trace_[static_cast<std::size_t>(best)].address)) {
      for (std::uint32_t i = 0; i <= nth_[static_cast<std::size_t>(best)] && !stage->over; ++i)
        settle(victim, process.go());
      process.clear_breakpoint();
      at = best;
    }
    for (; at < step && !stage->over; ++at) {
      settle(victim, process.step());
      if (at % 256 == 255) ::usleep(50);
    }
    return !stage->over;
  }

  void one(const Point& point) {
    try {
      Victim victim;
      report_.step = point.step;
      start(victim);
      bool there = to_step(victim, point.step);
      report_.address = there ? victim.process->next_address() : 0;
      if (there && point.asleep && victim.process->step() == Stepped::Stop::sleeps) {
        victim.slept = true;
        ++report_.asleep;
      }
      ++report_.kills;
      finish(victim);
    } catch (const std::exception& e) {
      complain("killed after instruction " + std::to_string(point.step) + (point.asleep ? ", asleep" : "") +
               ", before " + place_of(report_.address) + ": " + e.what());
    }
  }

  // The kill, and what comes after it.
  void finish(Victim& victim) {
    const Fate fate{stage->over != 0, victim.slept};
    const auto killed = Clock::now();
    victim.process->kill();
    doing("letting the survivors go on");
    victim.act.survive(fate);
    const std::int64_t took = std::chrono::nanoseconds(Clock::now() - killed).count();
    if (took > report_.worst_ns) report_.worst_ns = took, report_.worst_at = report_.step.load();
    if (took > std::chrono::nanoseconds(kTooLong).count())
      throw Violation("the survivors took " + std::to_string(took / 1'000'000) + " ms");
    doing("cleaning up");
    victim.act = Act();
    bury_all();
    // What is in use now and was not before is what this kill has leaked.
    const auto used = static_cast<long>(mp::memory::bytes_in_use());
    if (used_ >= 0 && used > used_ && !trace_.empty()) {
      ++report_.leaks;
      report_.leaked += used - used_;
      report_.most_leaked = std::max(report_.most_leaked.load(), used - used_);
      if (std::getenv("SURVIVE_LEAKS"))
        std::fprintf(stderr, "  %ld bytes leaked after %ld: %s\n", used - used_, report_.step.load(),
                     place_of(report_.address).c_str());
    }
    used_ = used;
  }

  void complain(const std::string& what) {
    bury_all();
    used_ = -1;
    ++report_.violations;
    report_.say(what);
  }

  const Scene& scene_;
  const Plan& plan_;
  Report& report_;
  std::vector<Instruction> trace_;
  std::vector<std::uint32_t> nth_;
  long used_ = -1;
};

}  // namespace

void play(const Scene& scene, const Plan& plan, Report& report) {
  static_cast<void>(mp::os::spinning_pays());  // of the machine, not of the one CPU of the stage
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);          // it sees what a victim leaves behind
  // A stage of its own: other scenes are played beside this one.
  if (::mmap(stage, sizeof(Stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
    throw std::runtime_error("no memory for a stage");
  pin_to_stage(0);
  mp::memory::start();
  Player(scene, plan, report).all();
}

}  // namespace crash
