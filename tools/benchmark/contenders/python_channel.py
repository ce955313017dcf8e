"""Python's multiprocessing: queues, pipes, locks, values, processes.

usage: python_channel.py CASE [quick]
"""

import multiprocessing
import resource
import sys
import time

QUICK = sys.argv[2:3] == ["quick"]
KIB = b"x" * 1024


def size(full, quick):
    return quick if QUICK else full


def produce(queue, go, count, item):
    go.wait()
    for _ in range(count):
        queue.put(item)


def consume(queue, go, count):
    go.wait()
    for _ in range(count):
        queue.get()


def through_queue(count, pairs, item):
    queue, go = multiprocessing.Queue(), multiprocessing.Event()
    team = [multiprocessing.Process(target=produce, args=(queue, go, count // pairs, item)) for _ in range(pairs)]
    readers = [multiprocessing.Process(target=consume, args=(queue, go, count // pairs)) for _ in range(pairs)]
    for process in team + readers:
        process.start()
    time.sleep(0.05)
    begin = time.perf_counter()
    go.set()
    for process in readers:
        process.join()
    print("value", (time.perf_counter() - begin) / count * 1e9)
    for process in team:
        process.join()


def echo(end):
    while (word := end.recv()) is not None:
        end.send(word)


def round_trip(count, gap):
    here, there = multiprocessing.Pipe()
    other = multiprocessing.Process(target=echo, args=(there,))
    other.start()
    took, before = [], resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    for i in range(count):
        if gap:
            time.sleep(gap)
        begin = time.perf_counter()
        here.send(i)
        here.recv()
        took.append(time.perf_counter() - begin)
    slept = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before - (count if gap else 0)
    print("slept-percent", 100 * max(slept, 0) / count)
    here.send(None)
    other.join()
    took.sort()
    for key, part in (("value", 0.5), ("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        print(key, took[int(part * (len(took) - 1))] * 1e9)


def drain(end):
    while end.recv() is not None:
        pass
    end.send(None)


def pipe_stream():
    count = size(100000, 500)
    here, there = multiprocessing.Pipe()
    other = multiprocessing.Process(target=drain, args=(there,))
    other.start()
    begin = time.perf_counter()
    for i in range(count):
        here.send(i)
    here.send(None)
    here.recv()
    print("value", (time.perf_counter() - begin) / count * 1e9)
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
    context, took = multiprocessing.get_context(method), []
    for _ in range(size(20 if method == "spawn" else 50, 2)):
        begin = time.perf_counter()
        process = context.Process(target=nothing)
        process.start()
        process.join()
        took.append(time.perf_counter() - begin)
    took.sort()
    print("value", took[len(took) // 2] * 1e6)


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
    CASES[sys.argv[1]]()
