// Queue<T>, JoinableQueue<T>, SimpleQueue<T>: Python's multiprocessing.Queue and its sisters, and the shutdown() of Python
// 3.13's queue.Queue. How they differ from Python's:
//  - put() is synchronous: what cannot be sent throws there, and what was put is in the queue. There is no feeder thread, so
//    no join_thread() either; a process that ends leaves everything behind that it has put.
//  - FIFO over all producers; qsize(), empty() and full() tell the truth of the moment.
//  - Killing a process inside put() or get() harms nobody else.
//
//   void worker(mp::Queue<Job> jobs, mp::Queue<Result> results) {
//     for (Job job : jobs) results.put(run(job));    // until the queue was shut down and is empty
//   }
//
// A handle is 8 bytes that mean the same in every process of the family: copy it, compare it, send it through queues, pipes,
// arguments, captures. Handles are const in use, like pointers.
//
// *Thread and process safety*: everything but close() and assignment, from any threads of any processes, also through one handle.
// *Memory ordering*: what came before a put() happens before the get() that returns its item.
// *If a process is killed*: in put(): the item is in the queue or it is not. In get(): at most the item that it was taking is lost
// with it. Others go on within 20 ms. That an item was lost with its consumer, JoinableQueue::join tells.
#pragma once

#include <chrono>
#include <cstddef>
#include <iterator>
#include <optional>
#include <utility>

#include "mp/channel/codec.hpp"
#include "mp/channel/queue_base.hpp"
#include "mp/pickle/fingerprint.hpp"

namespace mp {

namespace channel {

template <class T, Flavour flavour>
class TypedQueue : public QueueBase {
 public:
  void mp_pickle(pickle::Writer& w) const { dump(w); }

 protected:
  explicit TypedQueue(int maxsize) : QueueBase(flavour, pickle::fingerprint<T>(), maxsize) {
    static_cast<void>(pickle::detail::type_note<T>);
  }
  explicit TypedQueue(pickle::Reader& r) : QueueBase(load(r, flavour, pickle::fingerprint<T>())) {}

  Put put_value(const T& item, bool block, Timeout timeout) const {
    Stream& stream = state().stream;
    if constexpr (kSmallFlat<T>) {
      return put_until(stream, [&] { return stream.template try_put_flat<sizeof(T)>(&item); }, block, timeout);
    } else {
      Outgoing message(expected_size(item));
      pickle::dump(message.writer(), item);
      message.seal();
      return put_until(stream, [&] { return message.try_put(stream); }, block, timeout);
    }
  }

  // Nothing if there was none in time or will never be one; `why` says which.
  std::optional<T> take_value(Outcome& why, bool block, Timeout timeout) const {
    Stream& stream = state().stream;
    if constexpr (kSmallFlat<T> && std::is_default_constructible_v<T>) {
      std::optional<T> item(std::in_place);
      bool other = false;
      why = take_until(
          stream,
          [&] {
            const Got got = stream.template try_take_flat<sizeof(T)>(&*item);
            other = got == Got::other;
            return got != Got::empty;
          },
          block, timeout);
      if (why != Outcome::done) return std::nullopt;
      if (!other) [[likely]]
        return item;
    }
    Parcel parcel;
    why = take_until(stream, [&] { return stream.try_take(parcel) == Got::done; }, block, timeout);
    if (why != Outcome::done) return std::nullopt;
    return std::optional<T>(decode<T>(parcel.payload()));
  }
  T get_value(bool block, Timeout timeout) const {
    Outcome why;
    std::optional<T> item = take_value(why, block, timeout);
    if (why == Outcome::shut_down) [[unlikely]]
      throw ShutDown();
    if (!item) [[unlikely]]
      throw Empty();
    return *std::move(item);
  }
};

// Queue and JoinableQueue.
template <class T, Flavour flavour>
class FullQueue : public TypedQueue<T, flavour> {
  using Base = TypedQueue<T, flavour>;
  using Outcome = typename Base::Outcome;

 public:
  // Appends an item; where the queue is full, waits for room for as long as told. Throws Full; ShutDown; PicklingError or what T's
  // mp_pickle throws, SharedMemoryFull: then the queue is as before.
  void put(const T& item, bool block = true, Timeout timeout = {}) const {
    const Put result = this->put_value(item, block, timeout);
    if (result == Put::shut_down) [[unlikely]]
      throw ShutDown();
    if (result == Put::full) [[unlikely]]
      throw Full();
  }
  void put_nowait(const T& item) const { put(item, false); }
  // The same without throwing for the queue's state: whether the item is in.
  bool try_put(const T& item) const { return is_in(this->put_value(item, false, {})); }
  template <class Rep, class Period>
  bool put_for(const T& item, std::chrono::duration<Rep, Period> limit) const {
    return is_in(this->put_value(item, true, limit));
  }

  // Takes the first item; where there is none, waits for one for as long as told. Throws Empty; ShutDown when there will never be one;
  // UnpicklingError or what T's mp_unpickle throws: that item is gone.
  T get(bool block = true, Timeout timeout = {}) const { return this->get_value(block, timeout); }
  T get_nowait() const { return get(false); }
  // The same without throwing for the queue's state: empty when there is none in time, or will never be one.
  std::optional<T> try_get() const {
    Outcome why;
    return this->take_value(why, false, {});
  }
  template <class Rep, class Period>
  std::optional<T> get_for(std::chrono::duration<Rep, Period> limit) const {
    Outcome why;
    return this->take_value(why, true, limit);
  }

  // No more puts: they throw ShutDown, also those that wait for room. Gets drain the queue and then throw ShutDown; loops over
  // the queue end. `immediate`: what is in the queue is dropped as well. For good, and for all processes.
  void shutdown(bool immediate = false) const { this->shut_down(immediate); }

  // Goes through the items as get() would hand them out, waiting for each, until ShutDown. One pass.
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using difference_type = std::ptrdiff_t;
    using value_type = T;
    using reference = T&&;

    explicit iterator(const FullQueue& queue) : queue_(&queue) { ++*this; }
    T&& operator*() const noexcept { return std::move(*item_); }
    iterator& operator++() {
      Outcome why;
      item_ = queue_->take_value(why, true, {});
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& i, std::default_sentinel_t) noexcept { return !i.item_; }

   private:
    const FullQueue* queue_;
    mutable std::optional<T> item_;
  };
  iterator begin() const { return iterator(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

 protected:
  using Base::Base;
};

}  // namespace channel

// Queue(maxsize): unbounded if maxsize <= 0.
template <class T>
class Queue : public channel::FullQueue<T, channel::Flavour::queue> {
  using Base = channel::FullQueue<T, channel::Flavour::queue>;

 public:
  explicit Queue(int maxsize = 0) : Base(maxsize) {}
  static Queue mp_unpickle(pickle::Reader& r) { return Queue(r); }

 private:
  explicit Queue(pickle::Reader& r) : Base(r) {}
};

// A queue that knows when everything that was put has been worked off.
template <class T>
class JoinableQueue : public channel::FullQueue<T, channel::Flavour::joinable> {
  using Base = channel::FullQueue<T, channel::Flavour::joinable>;

 public:
  explicit JoinableQueue(int maxsize = 0) : Base(maxsize) {}
  static JoinableQueue mp_unpickle(pickle::Reader& r) { return JoinableQueue(r); }

  // One item that was got is done with. Throws ValueError when there is none.
  void task_done() const { Base::task_done(); }
  // Waits until task_done() was called for every item ever put. False when time was up first. Throws OwnerDied, where
  // Python's waits for ever, when a process died between get() and task_done(): one of those who wait learns it, once; the items count as
  // done then, so call it again (or put them once more) to go on.
  bool join(Timeout timeout = {}) const { return Base::join(timeout); }

 private:
  explicit JoinableQueue(pickle::Reader& r) : Base(r) {}
};

// Python's simplest queue: unbounded here, put() never waits.
template <class T>
class SimpleQueue : public channel::TypedQueue<T, channel::Flavour::simple> {
  using Base = channel::TypedQueue<T, channel::Flavour::simple>;

 public:
  SimpleQueue() : Base(0) {}
  static SimpleQueue mp_unpickle(pickle::Reader& r) { return SimpleQueue(r); }

  void put(const T& item) const { this->put_value(item, true, {}); }
  T get() const { return this->get_value(true, {}); }

 private:
  explicit SimpleQueue(pickle::Reader& r) : Base(r) {}
};

}  // namespace mp
