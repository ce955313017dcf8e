#include <atomic>
#include <chrono>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "workload.hpp"

namespace soak {
namespace {

using namespace std::chrono_literals;

using Counters = mp::RawArray<std::uint64_t>;

std::uint64_t read(const Counters& counters, std::size_t i) {
  return std::atomic_ref(counters[i]).load(std::memory_order_acquire);
}
void write(const Counters& counters, std::size_t i, std::uint64_t value) {
  std::atomic_ref(counters[i]).store(value, std::memory_order_release);
}
void increment(const Counters& counters, std::size_t i) {
  std::atomic_ref(counters[i]).fetch_add(1, std::memory_order_acq_rel);
}

constexpr std::size_t kProducers = 2, kConsumers = 2, kMessages = 300;

// The account of one round: every place has one writer, who says what he is about to do before and what he did after.
struct Ledger {
  Counters sending = Counters(kProducers);                // messages of each producer, the one in hand among them
  Counters sent = Counters(kProducers);                   // those that are surely in
  Counters delivered = Counters(kProducers * kMessages);  // times that each message was taken out
  Counters in_hand = Counters(kConsumers);                // 1 from before a get to after its entry
  mp::RawValue<int> over = mp::RawValue<int>(0);

  void mp_pickle(mp::pickle::Writer& out) const {
    for (const Counters* counters : {&sending, &sent, &delivered, &in_hand}) counters->mp_pickle(out);
    over.mp_pickle(out);
  }
  static Ledger mp_unpickle(mp::pickle::Reader& in) {
    Counters sending = Counters::mp_unpickle(in), sent = Counters::mp_unpickle(in),
             delivered = Counters::mp_unpickle(in), in_hand = Counters::mp_unpickle(in);
    return {std::move(sending), std::move(sent), std::move(delivered), std::move(in_hand),
            mp::RawValue<int>::mp_unpickle(in)};
  }
};

// Small ones lie in the queue, large ones in an object of their own.
struct Message {
  std::uint64_t number = 0, check = 0;
  std::string body;
};
Message make_message(std::uint64_t number) {
  return {number, mix(number),
          std::string(number % 50 == 7 ? 20'000 : number % 60, static_cast<char>('a' + number % 26))};
}
bool right(const Message& m) {
  const Message should = make_message(m.number);
  return m.number < kProducers * kMessages && m.check == should.check && m.body == should.body;
}

template <class Queue>
void produce(Queue queue, Ledger ledger, std::size_t me) {
  for (std::size_t i = 0; i < kMessages; ++i) {
    write(ledger.sending, me, i + 1);
    queue.put(make_message(me * kMessages + i));
    write(ledger.sent, me, i + 1);
  }
}

// False where the queue was empty.
template <class Queue>
bool take_one(Queue& queue, const Ledger& ledger, bool& wrong) {
  constexpr bool joinable = requires { queue.task_done(); };
  const std::optional<Message> message = queue.get_for(2ms);
  if (!message) return false;
  if (!right(*message)) wrong = true;
  else increment(ledger.delivered, message->number);
  if constexpr (joinable) queue.task_done();
  return true;
}

constexpr int kSawWrong = 3;

template <class Queue>
void consume(Queue queue, Ledger ledger, std::size_t me) {
  bool wrong = false, any = true;
  while (!wrong && (any || !ledger.over)) {
    write(ledger.in_hand, me, 1);
    any = take_one(queue, ledger, wrong);
    write(ledger.in_hand, me, 0);
  }
  if (wrong) std::exit(kSawWrong);
}

// Producers and consumers of all kinds, any of which may be killed; then the books are closed.
template <class Queue>
void run_queue(Report& report, Random& random, Queue queue) {
  constexpr bool joinable = requires { queue.task_done(); };
  const Ledger ledger;
  std::vector<mp::Process> producers, consumers;
  for (std::size_t i = 0; i < kProducers; ++i)
    producers.push_back(start(report, any_context(random), produce<Queue>, queue, ledger, i));
  for (std::size_t i = 0; i < kConsumers; ++i)
    consumers.push_back(start(report, any_context(random), consume<Queue>, queue, ledger, i));
  // Where all consumers are gone, a bounded queue would hold its producers for ever: the root takes over.
  bool wrong = false;
  for (mp::Process& producer : producers) {
    while (!producer.join(5ms)) {
      while (take_one(queue, ledger, wrong)) report.go_on();
    }
    report.go_on();
  }
  mp::RawValue<int> over = ledger.over;
  over = 1;
  std::uint64_t holders = 0;
  for (std::size_t i = 0; i < kConsumers; ++i) {
    consumers[i].join();
    if (consumers[i].exitcode() == kSawWrong) wrong = true;
    if (consumers[i].exitcode() != 0) holders += read(ledger.in_hand, i);
    report.go_on();
  }
  while (take_one(queue, ledger, wrong)) report.go_on();
  if (wrong) report.blame(Count::wrong, "a message was not what was sent");

  if constexpr (joinable) {
    // Says once that takers died with items, if they did; then all is accounted for.
    try {
      if (!queue.join(10s)) report.blame(Count::lost, "join() waits for items that are done");
    } catch (const mp::OwnerDied&) {
      if (holders == 0) report.blame(Count::wrong, "join() tells of a death that was none");
      if (!queue.join(10s)) report.blame(Count::lost, "join() waits for items that are done");
    }
  }

  std::uint64_t missing = 0;
  for (std::size_t p = 0; p < kProducers; ++p) {
    const std::uint64_t sent = read(ledger.sent, p), sending = read(ledger.sending, p);
    for (std::size_t i = 0; i < kMessages; ++i) {
      const std::uint64_t times = read(ledger.delivered, p * kMessages + i);
      if (times > 1) report.blame(Count::doubled, "a message came twice");
      if (times > 0 && i >= sending) report.blame(Count::wrong, "a message came that was not sent");  // never sent
      if (times == 0 && i < sent) ++missing;
    }
    report.add(Count::messages, sent);
  }
  // A message of a producer that died in put() may be there or not; one that was sent may be missing only with its taker.
  report.add(Count::in_hand, std::min(missing, holders));
  if (missing > holders) report.blame(Count::lost, "messages are gone that nobody had in hand", missing - holders);
}

void echo(mp::Connection connection) {
  try {
    for (;;) connection.send(connection.recv<Message>());
  } catch (const mp::EOFError&) {
  } catch (const mp::BrokenPipeError&) {}
}

}  // namespace

void queues(Report& report, Random& random) { run_queue(report, random, mp::Queue<Message>(random() % 2 ? 20 : 0)); }

void joinable_queues(Report& report, Random& random) {
  run_queue(report, random, mp::JoinableQueue<Message>(random() % 2 ? 20 : 0));
}

void pipes(Report& report, Random& random) {
  auto [here, there] = mp::Pipe();
  mp::Process process = start(report, any_context(random), echo, there);
  there.close();
  std::uint64_t sent = 0, received = 0;
  try {
    while (received < 200) {
      while (sent < 200 && sent - received < 1 + random() % 8) here.send(make_message(sent)), ++sent;
      const Message message = here.recv<Message>();
      if (message.number != received || !right(message)) report.blame(Count::wrong, "a message was not what was sent");
      ++received;
      report.go_on();
    }
    here.close();
    process.join();
  } catch (const mp::Error&) {  // its end is gone, so must it be
    if (!process.join(10s)) report.blame(Count::lost, "a pipe broke whose other end lives");
    else if (process.exitcode() == 0) report.blame(Count::lost, "a pipe broke before its other end did");
    report.add(Count::in_hand, sent - received);
  }
  report.add(Count::messages, received);
}

}  // namespace soak
