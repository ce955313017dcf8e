"""Python's multiprocessing: queues, pipes, locks, values, processes.

usage: python_channel.py CASE [quick]
"""

import ctypes
import multiprocessing
import multiprocessing.sharedctypes
import resource
import sys
import time

QUICK = sys.argv[2:3] == ["quick"]
KIB = b"x" * 1024
WHERE = -2


def size(full, quick):
    return quick if QUICK else full


def cpu():
    return ctypes.CDLL(None).sched_getcpu()


class Sides:
    """How often the sides of a stream were seen on two cores: far_side and near_side of contender.hpp."""

    def __init__(self):
        self.far, self.looks, self.apart = (multiprocessing.sharedctypes.RawValue("l", n) for n in (-1, 0, 0))

    def far_side(self, n):
        if n % 256 == 0:
            self.far.value = cpu()

    def near_side(self, n):
        if n % 256 == 0 and self.far.value >= 0:
            self.looks.value += 1
            self.apart.value += self.far.value != cpu()

    def print(self):
        if self.looks.value:
            print("two-cores-percent", 100 * self.apart.value / self.looks.value)


def produce(queue, go, count, item, sides):
    go.wait()
    for n in range(count):
        queue.put(item)
        sides.near_side(n)


def consume(queue, go, count, sides):
    go.wait()
    for n in range(count):
        queue.get()
        sides.far_side(n)


def print_latencies(took, unit):
    took.sort()
    print("samples", len(took))
    for key, part in (("value", 0.5), ("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        print(key, took[int(part * (len(took) - 1))] * unit)


def print_slept(before, count):
    slept = max(switches() - before, 0)
    print("slept-percent", min(100, 100 * slept / count))  # some calls sleep more than once


def switches():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def through_queue(count, pairs, item):
    queue, go, sides = multiprocessing.Queue(), multiprocessing.Event(), Sides()
    team = [multiprocessing.Process(target=produce, args=(queue, go, count // pairs, item, sides)) for _ in range(pairs)]
    readers = [multiprocessing.Process(target=consume, args=(queue, go, count // pairs, sides)) for _ in range(pairs)]
    for process in team + readers:
        process.start()
    time.sleep(0.05)
    begin = time.perf_counter()
    go.set()
    for process in readers:
        process.join()
    print("value", (time.perf_counter() - begin) / count * 1e9)
    sides.print()
    for process in team:
        process.join()


def echo(end):
    while (word := end.recv()) is not None:
        end.send(cpu() if word == WHERE else word)


def round_trip(count, gap):
    here, there = multiprocessing.Pipe()
    other = multiprocessing.Process(target=echo, args=(there,))
    other.start()
    took, before = [], switches()
    for i in range(count):
        if gap:
            time.sleep(gap)
        begin = time.perf_counter()
        here.send(i)
        here.recv()
        took.append(time.perf_counter() - begin)
    print_slept(before + (count if gap else 0), count)
    apart = 0
    for _ in range(50):
        here.send(WHERE)
        apart += here.recv() != cpu()
    print("two-cores-percent", 100 * apart / 50)
    here.send(None)
    other.join()
    print_latencies(took, 1e9)


def drain(end, sides):
    while (n := end.recv()) is not None:
        sides.far_side(n)
    end.send(None)


def pipe_stream():
    count = size(100000, 500)
    here, there = multiprocessing.Pipe()
    sides = Sides()
    other = multiprocessing.Process(target=drain, args=(there, sides))
    other.start()
    begin = time.perf_counter()
    for i in range(count):
        here.send(i)
        sides.near_side(i)
    here.send(None)
    here.recv()
    print("value", (time.perf_counter() - begin) / count * 1e9)
    sides.print()
    other.join()


def locked(lock):
    count = size(100000, 100)
    begin = time.perf_counter()
    for _ in range(count):
        with lock:
            pass
    print("value", (time.perf_counter() - begin) / count * 1e9)


def value_add():
    count, value = size(100000, 100), multiprocessing.Value("l", 0)
    begin = time.perf_counter()
    for _ in range(count):
        with value.get_lock():
            value.value += 1
    print("value", (time.perf_counter() - begin) / count * 1e9)


def nothing():
    pass


def start(method):
    context, took, before = multiprocessing.get_context(method), [], switches()
    for _ in range(size(20 if method == "spawn" else 50, 2)):
        begin = time.perf_counter()
        process = context.Process(target=nothing)
        process.start()
        process.join()
        took.append(time.perf_counter() - begin)
    print_slept(before, len(took))
    print_latencies(took, 1e6)


CASES = {
    "queue-1to1": lambda: through_queue(size(30000, 100), 1, 7),
    "queue-2to2": lambda: through_queue(size(30000, 100), 2, 7),
    "queue-kib": lambda: through_queue(size(30000, 100), 1, KIB),
    "pipe-awake": lambda: round_trip(size(3000, 10), 0),
    "pipe-parked": lambda: round_trip(size(300, 10), 0.001),
    "pipe-stream": pipe_stream,
    "lock": lambda: locked(multiprocessing.Lock()),
    "rlock": lambda: locked(multiprocessing.RLock()),
    "value": value_add,
    "fork": lambda: start("fork"),
    "spawn": lambda: start("spawn"),
    "forkserver": lambda: start("forkserver"),
}

if __name__ == "__main__":
    try:
        CASES[sys.argv[1]]()
    except ImportError as error:
        print("note", error)
        print("missing")
