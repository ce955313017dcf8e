// The program that a step of the sweep runs in a process of its own: victim PROGRAM. It does the same thing three times with the same
// objects: with the fault of its plan, and twice when that is gone; and reports what came of each. Without a plan (in the
// environments of environments.cpp) there is no fault but the environment's, or that of MP_FAULTS_LIMIT, which is lifted after the first
// run; then the exit code is 0, or 10 + the Outcome of the run that should have worked.
//
// Everything waits with a limit: who waits longer would hang, and says so as a wrong result.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "descriptors.hpp"
#include "mp/mp.hpp"
#include "plan.hpp"

namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

faults::Plan* plan = nullptr;

int refuse(mp::os::Call call) noexcept {
  if (!plan->armed.load(std::memory_order_relaxed)) return 0;
  const auto which = static_cast<int>(call);
  const std::int64_t n = plan->counts[which].fetch_add(1, std::memory_order_relaxed) + 1;
  if (plan->nth == 0 || which != plan->call || n < plan->nth || (n > plan->nth && !plan->on)) return 0;
  if (plan->fired.fetch_add(1, std::memory_order_relaxed) == 0) plan->fired_in.store(::getpid());
  return plan->error;
}

// Before main and before the library's first call, in executed children, too.
const bool planned [[maybe_unused]] = [] {
  const char* file = std::getenv(faults::kPlanVariable);
  if (file == nullptr) return false;
  const int fd = ::open(file, O_RDWR | O_CLOEXEC);
  if (fd < 0) std::perror(file), std::abort();
  void* place = ::mmap(nullptr, sizeof(faults::Plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (place == MAP_FAILED) std::perror("mmap"), std::abort();
  plan = static_cast<faults::Plan*>(place);
  mp::os::fault_hook = refuse;
  return true;
}();

// ---- what is checked ------------------------------------------------------------------------------------------------

constexpr auto kLong = 20s;  // for what comes at once where nothing hangs

struct Wrong : std::exception {
  std::string text;
  explicit Wrong(std::string t) : text(std::move(t)) {}
  const char* what() const noexcept override { return text.c_str(); }
};
struct ChildFailed : Wrong {
  using Wrong::Wrong;
};

void require(bool right, const char* what) {
  if (!right) throw Wrong(what);
}

void require_end(mp::Process& process, const char* what) {
  require(process.join(kLong), (what + " did not end"s).c_str());
  if (process.exitcode() != 0)
    throw ChildFailed(what + " ended with "s + std::to_string(process.exitcode().value_or(-1000)));
}

int square(int x) { return x * x; }
std::string twice(const std::string& text) { return text + text; }
[[noreturn]] int die(int) {
  ::raise(SIGKILL);
  std::abort();
}
int refuse_odd(int x) {
  if (x % 2 != 0) throw std::domain_error("odd: " + std::to_string(x));
  return x;
}

// ---- programs: each a thing that is made once and used again ---------------------------------------------------------

struct Program {
  virtual ~Program() = default;
  virtual void use() = 0;
};

template <class T>
T& made(std::optional<T>& object, auto&&... args) {
  if (!object) object.emplace(std::forward<decltype(args)>(args)...);
  return *object;
}

// Until the child has set `event`; it may end instead, by the fault.
void await(const mp::Event& event, mp::Process& child) {
  for (int i = 0; !event.wait(50ms); ++i) {
    if (!child.is_alive() && !event.is_set()) require_end(child, "the other");
    require(i < 400, "the child does not come");
  }
}

struct Locks : Program {
  std::optional<mp::Lock> lock;
  std::optional<mp::RLock> rlock;
  std::optional<mp::Semaphore> tokens;
  std::optional<mp::Condition> condition;
  std::optional<mp::Event> event;
  std::optional<mp::Value<int>> count;
  void use() override {
    made(lock), made(rlock), made(tokens, 1), made(condition), made(event), made(count, 0);
    *count = 0;
    event->clear();
    mp::Process other({.daemon = true}, [this] {
      for (int i = 0; i < 20; ++i) {
        std::scoped_lock one(*lock, *rlock);
        ++*count;
      }
      if (!tokens->acquire(true, kLong)) ::_exit(2);
      tokens->release();
      std::unique_lock guard(*condition);
      event->set();
      if (!condition->wait_for([this] { return *count == 41; }, kLong)) ::_exit(3);
    });
    other.start();
    for (int i = 0; i < 20; ++i) {
      std::scoped_lock one(*lock, *rlock);
      ++*count;
    }
    require(tokens->acquire(true, kLong), "the token did not come back");
    tokens->release();
    await(*event, other);
    {
      require(condition->acquire(true, kLong), "the condition's lock was not free");
      std::unique_lock guard(*condition, std::adopt_lock);
      require(other.is_alive() || *count == 40, "a count was lost");
      ++*count;
      condition->notify_all();
    }
    require_end(other, "the other");
    require(*count == 41, "a count was lost");
  }
};

struct Barriers : Program {
  std::optional<mp::Barrier> barrier;
  std::optional<mp::Event> here;
  void use() override {
    made(barrier, 2, kLong).reset();
    made(here).clear();
    mp::Process other({.daemon = true}, [this] {
      here->set();
      for (int i = 0; i < 3; ++i) barrier->wait();
    });
    other.start();
    await(*here, other);
    try {
      for (int i = 0; i < 3; ++i) barrier->wait();
    } catch (const mp::BrokenBarrierError&) {  // by a death of the other, whose code says more
      require_end(other, "the other");
      throw Wrong("the barrier broke with all parties well");
    }
    require_end(other, "the other");
  }
};

struct Queues : Program {
  std::optional<mp::Queue<std::string>> there, back;
  void use() override {
    made(there), made(back);
    while (there->try_get()) {}
    while (back->try_get()) {}
    mp::Process other({.daemon = true}, [this] {
      for (int i = 0; i < 4; ++i) {
        auto item = there->get_for(kLong);
        if (!item) ::_exit(2);
        back->put(twice(*item));
      }
    });
    other.start();
    for (std::size_t size : {10u, 1000u, 100'000u, 1'500'000u}) {
      there->put(std::string(size, 'x'));
      std::optional<std::string> got;
      for (int tries = 0; tries < 400 && !(got = back->get_for(50ms)); ++tries)
        if (!other.is_alive() && back->empty()) require_end(other, "the echo");
      require(got && got->size() == size * 2, "no echo, or a wrong one");
    }
    require_end(other, "the echo");
    require(there->empty() && back->empty(), "something was doubled");
  }
};

struct Pipes : Program {
  void use() override {
    auto [here, there] = mp::Pipe();
    mp::Process other({.daemon = true}, [end = std::move(there)]() mutable {
      for (int i = 0; i < 3; ++i) end.send(twice(end.template recv<std::string>()));
    });
    other.start();
    there.close();
    for (std::size_t size : {10u, 1000u, 300'000u}) {
      here.send(std::string(size, 'x'));
      require(!mp::connection::wait({here, other.sentinel()}, kLong).empty(), "neither echo nor end");
      require(here.poll(kLong), "no echo");
      try {
        require(here.recv<std::string>().size() == size * 2, "a wrong echo");
      } catch (const mp::EOFError&) {
        require_end(other, "the echo");
        throw;
      }
    }
    require_end(other, "the echo");
  }
};

struct Named : Program {
  struct Gone {
    mp::SharedMemory& memory;
    bool done = false;
    void unlink() {
      memory.unlink();
      done = true;
    }
    ~Gone() {
      if (!done) ::shm_unlink(("/" + memory.name()).c_str());
    }
  };
  void use() override {
    mp::SharedMemory memory = mp::SharedMemory::create(200'000);
    Gone gone{memory};
    for (std::byte b : memory.buf()) require(b == std::byte{0}, "new memory is not zero");
    memory.buf()[199'999] = std::byte{7};
    mp::SharedMemory other(memory.name());
    require(other.size() == 200'000 && other.buf()[199'999] == std::byte{7}, "another's view differs");
    gone.unlink();
    const std::string name = "mp_faults_" + std::to_string(::getpid());
    mp::SharedMemory named(name, true, 5000);
    Gone named_gone{named};
    try {
      mp::SharedMemory twice(name, true, 5000);
      throw Wrong("a name was given twice");
    } catch (const mp::OSError& e) {
      if (e.code() != std::errc::file_exists) throw;
    }
    named_gone.unlink();
    try {
      mp::SharedMemory none(name);
      throw Wrong("a name without an object");
    } catch (const mp::OSError& e) {
      if (e.code() != std::errc::no_such_file_or_directory) throw;
    }
  }
};

struct Arrays : Program {
  std::optional<mp::Array<int>> small, large;
  void use() override {
    made(small, 100), made(large, 500'000);
    mp::Array<long> fresh(1'000'000);
    for (long x : fresh.span()) require(x == 0, "a new array is not zero");
    mp::Process other([this, fresh] {
      (*small)[99] = 1;
      (*large)[499'999] = 2;
      fresh[999'999] = 3;
    });
    other.start();
    require_end(other, "the writer");
    require((*small)[99] == 1 && (*large)[499'999] == 2 && fresh[999'999] == 3, "what a child wrote is not there");
  }
};

int add(int a, int b) { return a + b; }
void put_sum(const mp::Queue<int>& results, const std::vector<int>& numbers) {
  results.put(std::accumulate(numbers.begin(), numbers.end(), 0));
}

struct Processes : Program {
  mp::StartMethod method;
  explicit Processes(mp::StartMethod m) : method(m) {}
  std::optional<mp::Queue<int>> results;
  void use() override {
    while (made(results).try_get()) {}
    mp::Process adder({.context = method}, put_sum, *results, std::vector<int>{1, 2, 3});
    adder.start();
    require(adder.pid() > 0, "no pid");
    mp::Process sleeper({.daemon = true, .context = method}, [] { std::this_thread::sleep_for(60s); });
    sleeper.start();
    require_end(adder, "the adder");
    require(results->get_for(kLong) == 6, "a wrong sum");
    sleeper.kill();
    require(sleeper.join(kLong), "the killed one did not end");
    if (sleeper.exitcode() != -SIGKILL)
      throw ChildFailed("the killed one ended with " + std::to_string(sleeper.exitcode().value_or(-1000)));
    require(mp::active_children().empty(), "a child is left");
  }
};

struct Executors : Program {
  mp::StartMethod method;
  explicit Executors(mp::StartMethod m) : method(m) {}
  std::optional<mp::ProcessPoolExecutor> pool;
  void use() override {
    if (!pool) pool.emplace(mp::ExecutorOptions{.max_workers = 2, .mp_context = method});
    try {
      use_pool();
    } catch (const mp::BrokenProcessPool&) {
      pool.reset();  // for good, as Python's; the program makes a new one
      throw;
    }
  }
  void use_pool() {
    std::vector<int> numbers(1000);
    std::iota(numbers.begin(), numbers.end(), 0);
    auto one = pool->submit(square, 7);
    auto words = pool->map(twice, std::vector<std::string>{"a", "bc", std::string(100'000, 'x')});
    auto squares = pool->map(square, numbers);
    auto odd = pool->submit(refuse_odd, 3);
    require(one.result(kLong) == 49, "a wrong square");
    std::size_t sizes = 0;
    for (const std::string& word : words) sizes += word.size();
    require(sizes == 200'006, "wrong words");
    int i = 0;
    for (int x : squares) require(x == i * i, "a wrong square"), ++i;
    require(i == 1000, "results are missing");
    auto error = odd.exception(kLong);
    try {
      if (error) std::rethrow_exception(error);
      throw Wrong("no exception came back");
    } catch (const std::domain_error&) {}
  }
};

// A worker dies and is replaced; then a pool ends and a new one begins.
struct Replaced : Program {
  std::optional<mp::ProcessPoolExecutor> pool;
  void use() override {
    if (!pool) pool.emplace(mp::ExecutorOptions{.max_workers = 2});
    try {
      try {
        pool->submit(die, 0).result(kLong);
        throw Wrong("the dead gave a result");
      } catch (const mp::WorkerCrashed&) {}
      for (int i = 0; i < 20; ++i) require(pool->submit(square, i).result(kLong) == i * i, "a wrong square");
    } catch (const mp::BrokenProcessPool&) {
      pool.reset();
      throw;
    }
    mp::Pool second(1);
    require(second.apply(square, 3) == 9, "a wrong square");
    second.close();
    second.join();
  }
};

int with_a_pool(int n) {
  mp::ProcessPoolExecutor inner(1);
  return inner.submit(square, n).result(kLong);
}
int with_a_process(int n) {
  mp::Value<int> result(0);
  mp::Process child([&] { result = add(n, 1); });
  child.start();
  require_end(child, "a grandchild");
  return result;
}

struct Nested : Program {
  std::optional<mp::Value<int>> result;
  void use() override {
    made(result, 0) = 0;
    mp::Process child([this] { *result = with_a_pool(5); });
    child.start();
    mp::ProcessPoolExecutor pool(1);
    const int from_task = pool.submit(with_a_process, 6).result(kLong);
    require(from_task == 7, "a wrong sum");
    require_end(child, "the child with a pool");
    require(*result == 25, "a wrong square");
  }
};

struct Threads : Program {
  std::optional<mp::ThreadPoolExecutor> pool;
  void use() override {
    made(pool, 2);
    auto one = pool->submit(square, 3);
    int sum = 0;
    for (int x : pool->map(square, std::vector<int>{1, 2, 3})) sum += x;
    require(one.result(kLong) == 9 && sum == 14, "a wrong sum");
  }
};

// For a /dev/shm that has less room.
struct TooLarge : Program {
  void use() override {
    try {
      mp::SharedMemory memory = mp::SharedMemory::create(100'000'000);
      memory.unlink();
      throw Wrong("there is room for too much");
    } catch (const mp::SharedMemoryFull& e) {
      std::fprintf(stderr, "%s\n", e.what());
      require(e.asked() == 100'000'000 && e.allowed() > 0 && e.used() <= e.allowed(), "wrong figures");
    }
    mp::SharedMemory small = mp::SharedMemory::create(100'000);
    small.unlink();
  }
};

std::size_t eat(std::size_t bytes) {
  std::vector<char> much(bytes);
  for (std::size_t i = 0; i < bytes; i += 4096) much[i] = 1;
  return static_cast<std::size_t>(std::count(much.begin(), much.end(), 1));
}

// For a cgroup that allows less.
struct Eater : Program {
  std::optional<mp::ProcessPoolExecutor> pool;
  void use() override {
    if (!pool) pool.emplace(mp::ExecutorOptions{.max_workers = 2});
    try {
      pool->submit(eat, std::size_t{1} << 30).result(kLong);
      throw Wrong("there is room for too much");
    } catch (const mp::WorkerCrashed& e) {
      std::fprintf(stderr, "%s\n", e.what());
      require(e.signal() == SIGKILL, "it was killed by another signal");
    }
    for (int i = 0; i < 20; ++i) require(pool->submit(square, i).result(kLong) == i * i, "a wrong square");
  }
};

std::unique_ptr<Program> program_named(const std::string& name) {
  const std::map<std::string, std::function<std::unique_ptr<Program>()>> programs{
      {"locks", [] { return std::make_unique<Locks>(); }},
      {"barriers", [] { return std::make_unique<Barriers>(); }},
      {"queues", [] { return std::make_unique<Queues>(); }},
      {"pipes", [] { return std::make_unique<Pipes>(); }},
      {"named", [] { return std::make_unique<Named>(); }},
      {"arrays", [] { return std::make_unique<Arrays>(); }},
      {"fork", [] { return std::make_unique<Processes>(mp::fork); }},
      {"spawn", [] { return std::make_unique<Processes>(mp::spawn); }},
      {"forkserver", [] { return std::make_unique<Processes>(mp::forkserver); }},
      {"pool", [] { return std::make_unique<Executors>(mp::fork); }},
      {"spawn-pool", [] { return std::make_unique<Executors>(mp::spawn); }},
      {"replaced", [] { return std::make_unique<Replaced>(); }},
      {"nested", [] { return std::make_unique<Nested>(); }},
      {"too-large", [] { return std::make_unique<TooLarge>(); }},
      {"eater", [] { return std::make_unique<Eater>(); }},
      {"threads", [] { return std::make_unique<Threads>(); }},
  };
  auto found = programs.find(name);
  if (found == programs.end()) std::fprintf(stderr, "no program %s\n", name.c_str()), std::exit(2);
  return found->second();
}

// ---- the three runs -------------------------------------------------------------------------------------------------

faults::Outcome run(Program& program, std::string& text) {
  using faults::Outcome;
  try {
    program.use();
    return Outcome::worked;
  } catch (const ChildFailed& e) {
    return text = e.what(), Outcome::child_failed;
  } catch (const Wrong& e) {
    return text = e.what(), Outcome::wrong;
  } catch (const mp::Error& e) {
    return text = e.what(), Outcome::typed;
  } catch (const std::system_error& e) {
    return text = e.what(), Outcome::typed;
  } catch (const std::exception& e) {
    return text = e.what(), Outcome::untyped;
  }
}

// A limit of this process and all that it has started.
class Limit {
 public:
  // "nofile=N", "nproc=N", "as=MIB" (more than there is now); null: none.
  explicit Limit(const char* text) {
    if (text == nullptr) return;
    const std::string all = text, name = all.substr(0, all.find('='));
    rlim_t value = std::strtoul(all.c_str() + name.size() + 1, nullptr, 10);
    which_ = name == "nofile" ? RLIMIT_NOFILE : name == "nproc" ? RLIMIT_NPROC : RLIMIT_AS;
    if (which_ == RLIMIT_AS) {
      unsigned long pages = 0;
      std::ifstream("/proc/self/statm") >> pages;
      value = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (value << 20);
    }
    ::getrlimit(which_, &before_);
    const rlimit now{value, before_.rlim_max};
    ::setrlimit(which_, &now);
    set_ = true;
  }
  bool set() const { return set_; }
  void lift() {
    if (!set_) return;
    ::setrlimit(which_, &before_);
    for (const auto& entry : std::filesystem::directory_iterator("/proc"))
      if (const pid_t pid = std::atoi(entry.path().filename().c_str()); pid > 0 && ::getpgid(pid) == ::getpgrp())
        ::prlimit(pid, which_, &before_, nullptr);
  }

 private:
  decltype(RLIMIT_NOFILE) which_ = RLIMIT_NOFILE;
  rlimit before_{};
  bool set_ = false;
};

int main_of(const std::string& name) {
  std::unique_ptr<Program> program = program_named(name);
  Limit limit(std::getenv("MP_FAULTS_LIMIT"));
  if (plan) plan->victim = ::getpid();
  for (int i = 0; i < faults::Plan::kRuns; ++i) {
    if (plan) plan->armed.store(i == 0);
    std::string text;
    const faults::Outcome outcome = run(*program, text);
    if (plan) plan->armed.store(false);
    std::fprintf(stderr, "run %d: %s\n", i + 1, outcome == faults::Outcome::worked ? "worked" : text.c_str());
    if (i == 0) limit.lift();
    if (!plan) {
      const bool may_fail = i == 0 && limit.set();
      if (outcome != faults::Outcome::worked &&
          !(may_fail && (outcome == faults::Outcome::typed || outcome == faults::Outcome::child_failed)))
        return 10 + static_cast<int>(outcome);
      continue;
    }
    faults::Report& report = plan->reports[i];
    report.outcome = outcome;
    std::snprintf(report.text, sizeof report.text, "%s", text.c_str());
  }
  program.reset();
  if (plan) plan->descriptors = static_cast<std::int32_t>(test::open_descriptors().size());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  mp::freeze_support();
  if (argc != 2) return std::fprintf(stderr, "usage: victim PROGRAM\n"), 2;
  return main_of(argv[1]);
}
