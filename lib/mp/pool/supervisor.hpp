// The supervisor: the one thread of a pool's owner that settles what workers cannot. It starts and replaces them, and it
// alone decides about a dead worker's task, so that every task has exactly one outcome.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "mp/memory/ref.hpp"
#include "mp/os/fd.hpp"
#include "mp/pickle/crashed.hpp"
#include "mp/pool/engine.hpp"
#include "mp/pool/oom_account.hpp"
#include "mp/pool/parcel.hpp"
#include "mp/process/server.hpp"

namespace mp::pool {

class Supervisor {
 public:
  // Starts the workers, then its thread. Throws OSError and Error where processes cannot be made.
  Supervisor(ProcessEngine& engine, EngineOptions options);
  // Only once its thread has ended.
  ~Supervisor();
  // The copy in a fork child: neither thread nor server is there.
  void forget() noexcept;

  bool is_this_thread() const noexcept;
  void join();
  // Called by its own thread: the engine retires as soon as the loop is over.
  void retire_after() noexcept { retire_after_ = true; }

  std::vector<pid_t> worker_pids();
  // Ends a running task by its worker's death; false if it is over already.
  bool kill(SlotTask& task);

  void add_job(memory::Offset job, std::weak_ptr<JobControl> control);
  void remove_job(memory::Offset job) noexcept;

 private:
  using Mode = ProcessEngine::Mode;
  enum class Reason { none, limit, cancel };
  // To end itself for a limit of time, given to a worker.
  struct Order {
    Limit limit = Limit::none;
    std::uint64_t since = 0;  // of what it ran (WorkerEntry)
    std::uint64_t used = 0;   // ns
    std::int64_t at = 0;      // when it was given, ns
  };
  struct Worker {
    memory::Ref record;  // null = none
    memory::Ref start;   // its WorkerStart
    bool ended = true;
    Reason reason = Reason::none;        // why we killed it
    std::int64_t term_at = 0;            // when it was asked to end (terminate), ns
    Order order;                         // the last; for what it runs only as long as that began then
    OomAccount::Group* group = nullptr;  // its control group when it was ready
    bool group_known = false;
    std::int64_t launched_at = 0;  // monotonic ns
  };

  // From SIGTERM, or an order to end itself, to SIGKILL, ns.
  static constexpr std::int64_t kGrace = 500'000'000;
  static process::Record& record_of(const memory::Ref& ref) noexcept;
  // A descriptor that means the process of `record` and no other, if it lives.
  static os::UniqueFd hold(const process::Record& record) noexcept;

  void start_server();
  bool lacks_heir() const noexcept;
  void keep_heir() noexcept;
  void end_heir() noexcept;
  void start_thread();
  void launch(std::uint32_t index);
  void supervise() noexcept;
  void report() noexcept;
  void report_one(std::uint32_t slot, std::uint32_t generation) noexcept;
  bool check_workers() noexcept;  // true while any lives
  void bury(std::uint32_t index) noexcept;
  void settle_victim(std::uint32_t index, SlotTask& task) noexcept;
  void check_limits() noexcept;
  void end_for(const Order& order, std::uint32_t index, const Intent& intent) noexcept;
  Limit limit_passed(std::uint32_t index, const Slot& slot, const CrashDetails& details) const noexcept;
  void replace_workers() noexcept;
  bool too_many_failed_starts(bool by_others) noexcept;
  void put_off(const std::string& why) noexcept;
  void break_pool(const std::string& why) noexcept;
  void lose_waiting(Mode mode) noexcept;
  void kill_workers() noexcept;
  void wait_for_news(std::uint32_t seen) noexcept;
  std::exception_ptr why_lost(std::uint32_t index, SlotTask& task);
  void forget_old_oom_kills(std::int64_t age) noexcept;
  bool stop_and_kill(std::uint32_t index, Reason reason, std::uint32_t slot, std::uint32_t generation,
                     std::uint64_t since) noexcept;

  ProcessEngine& engine_;
  TaskBoard& board_;
  EngineOptions options_;
  const bool forks_;  // the server is a zygote
  Parcel initializer_;
  std::unique_ptr<process::Server> server_;

  std::mutex jobs_mutex_;
  std::unordered_map<memory::Offset, std::weak_ptr<JobControl>> jobs_;

  // The thread's own.
  OomAccount oom_;
  std::int64_t oom_looked_at_ = 0;  // monotonic ns
  memory::Ref heir_;                // the record of the zygote's heir; null = none
  std::int64_t next_heir_at_ = 0;   // monotonic ns

  // The thread's own, but for worker_pids() and kill() under workers_mutex_.
  std::mutex workers_mutex_;
  std::vector<Worker> workers_;
  unsigned failed_starts_ = 0;      // in a row
  std::int64_t failing_since_ = 0;  // the first of them, monotonic ns
  std::uint64_t launched_ = 0;      // workers, ever: numbers their names
  // Workers that the kernel or full memory refused: tried again after a pause that doubles.
  unsigned refused_ = 0;            // in a row
  std::int64_t last_refusal_ = 0;   // monotonic ns
  std::int64_t retry_at_ = 0;       // nobody is started before
  std::int64_t lacking_since_ = 0;  // how long there has been no worker at all for that reason; 0: there is one

  std::mutex join_mutex_;
  bool retire_after_ = false;
  std::thread thread_;
};

}  // namespace mp::pool
