"""Python's concurrent.futures, multiprocessing, and joblib: what a contender in C++ is, see contender.hpp.

usage: python_pool.py CASE [quick]
"""

import concurrent.futures
import ctypes
import multiprocessing
import resource
import sys
import time

WORKERS = 2
QUICK = sys.argv[2:3] == ["quick"]


def size(full, quick):
    return quick if QUICK else full


def following(n):
    return n + 1


def shout(word):
    return word + "!"


def doubled(reading):
    sensor, value, unit = reading
    return sensor, 2 * value, unit


def words(count):
    return [f"a word of forty characters, number {10000 + i}" for i in range(count)]


def switches():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def cpu():
    return ctypes.CDLL(None).sched_getcpu()


def print_latencies(took, slept):
    print("slept-percent", min(100, 100 * max(slept, 0) / len(took)))
    print("samples", len(took))
    took.sort()
    for key, part in (("value", 0.5), ("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        print(key, took[int(part * (len(took) - 1))] * 1e9)


def stream():
    count, flight = size(5000, 50), []
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        pool.submit(following, 1).result()
        begin = time.perf_counter()
        for i in range(count):
            if i >= 1024:
                flight[i % 1024].result()
                flight[i % 1024] = pool.submit(following, i)
            else:
                flight.append(pool.submit(following, i))
        for future in flight:
            future.result()
        print("value", (time.perf_counter() - begin) / count * 1e9)


def round_trip(count, gap):
    took = []
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        pool.submit(following, 1).result()
        before = switches()
        for _ in range(count):
            if gap:
                time.sleep(gap)
            begin = time.perf_counter()
            pool.submit(following, 1).result()
            took.append(time.perf_counter() - begin)
        slept = switches() - before - (count if gap else 0)
        apart = sum(pool.submit(cpu).result() != cpu() for _ in range(50))
        print("two-cores-percent", 100 * apart / 50)
    print_latencies(took, slept)


def timed_map(function, items, repeat=1, chunksize=None):
    with multiprocessing.Pool(WORKERS) as pool:
        pool.map(function, items[:10])
        begin = time.perf_counter()
        pool.map(function, items, chunksize)
        print("value", (time.perf_counter() - begin) / len(items) * 1e9)


def joblib_stream():
    import joblib

    count = size(5000, 50)
    with joblib.Parallel(n_jobs=WORKERS) as parallel:
        parallel(joblib.delayed(following)(i) for i in range(10))
        begin = time.perf_counter()
        parallel(joblib.delayed(following)(i) for i in range(count))
        print("value", (time.perf_counter() - begin) / count * 1e9)
    print("note batches of its own choice")


def joblib_map_ints():
    import joblib

    count = size(50000, 50)
    with joblib.Parallel(n_jobs=WORKERS, batch_size=5000) as parallel:
        parallel(joblib.delayed(following)(i) for i in range(10))
        begin = time.perf_counter()
        parallel(joblib.delayed(following)(i) for i in range(count))
        print("value", (time.perf_counter() - begin) / count * 1e9)


CASES = {
    "stream": stream,
    "awake": lambda: round_trip(size(1000, 10), 0),
    "parked": lambda: round_trip(size(300, 10), 0.001),
    "map-ints": lambda: timed_map(following, range(size(1000000, 2000))),
    "map-strings": lambda: timed_map(shout, words(size(200000, 1000))),
    "map-structs": lambda: timed_map(doubled, [(7, 1.5, "metre")] * size(200000, 1000)),
    "joblib-stream": joblib_stream,
    "joblib-map-ints": joblib_map_ints,
}

if __name__ == "__main__":
    try:
        CASES[sys.argv[1]]()
    except ImportError as error:
        print("note", error)
        print("missing")
