"""Measures what a test has no time for. Run by hand, on a machine that does nothing else:

    many.py embed [--pictures 2000]     a cluster of two machines: 1 and 2 workers, and one of them killed in the middle
    many.py sweep                       cells of an evaluation on it: 1 and 2 at a time, and one after the other without Ray
    many.py overhead                    the Python layer on 32 pictures, beside the library through its C functions; two threads
    many.py rounds [--rounds 1000]      memory over rounds of load, encode, drop
"""

import argparse
import ctypes
import gc
import json
import os
import pathlib
import statistics
import tempfile
import threading
import time

os.environ.setdefault("TIPI_TUNE", "off")

import numpy as np

import tipi

ROOT = pathlib.Path(__file__).resolve().parents[3]
MODEL = ROOT / "weights/picto"
PICTURES = sorted((ROOT / "examples/pictos").rglob("*.png"))


def timed(work):
    begun = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begun


def embed(pictures):
    import pyarrow.parquet as pq
    import ray

    import tipi.ray
    from clusters import kill_one, two_machines

    paths = PICTURES[:pictures]
    model = tipi.Model(MODEL)
    model.encode_images(paths[:32])
    wanted, alone = timed(lambda: model.encode_images(paths))
    print(f"one process without Ray: {len(paths)} pictures in {alone:.1f} s, {len(paths) / alone:.0f} a second")
    cluster = two_machines()
    rows = {str(path): wanted[row].tobytes() for row, path in enumerate(paths)}

    def run(workers, kill):
        found, killed = ray.data.read_binary_files([str(path) for path in paths], include_paths=True), []
        with tempfile.TemporaryDirectory() as out:
            thread = threading.Thread(target=kill_one, args=(cluster, "MapBatches(_Worker)).", killed, 2, kill))
            if kill is not None:
                thread.start()
            _, took = timed(lambda: tipi.ray.embed(found, MODEL, workers=workers, batch=64).write_parquet(out))
            table = pq.read_table(out)
        if kill is not None:
            thread.join()
            assert killed
        names = table["path"].to_pylist()
        assert len(names) == len(set(names)) == len(paths), f"{len(names)} rows, {len(set(names))} pictures"
        features = table["features"].to_pylist()
        assert all(np.array(one, np.float32).tobytes() == rows[name] for name, one in zip(names, features, strict=True))
        what = "" if kill is None else ", one killed"
        print(f"{workers} worker(s){what}: {took:.1f} s, {len(paths) / took:.0f} a second; each picture once, bits as alone", flush=True)
        return took

    run(1, None)
    for workers in (1, 2):
        run(workers, None)
    run(2, 4.0)


def sweep():
    import tipi.ray
    from clusters import two_machines

    dataset = tipi.Dataset(ROOT / "examples/pictos/novel")
    options = {
        "methods": ["zero-shot", "gda", "tip-adapter", "tip-adapter-f"],
        "shots": [1, 4],
        "seeds": [1, 2, 3],
        "templates": "an icon of {}",
        "how": {"key_views": 2, "views": 4, "grid": "standard"},
    }

    def lines(folder):
        all_of = [json.loads(line) for line in (folder / dataset.name / "results.jsonl").read_text().splitlines()]
        for line in all_of:
            del line["fit_seconds"], line["predict_seconds"], line["peak_bytes"]
        return sorted(json.dumps(line, sort_keys=True) for line in all_of)

    with tempfile.TemporaryDirectory() as out:
        out = pathlib.Path(out)
        model = tipi.Model(MODEL)
        _, took = timed(lambda: model.evaluate([dataset], out / "alone", **options))
        wanted = lines(out / "alone")
        print(f"one process without Ray: {len(wanted)} cells in {took:.1f} s, pictures {dataset.pictures}")
        two_machines()
        for at_once in (1, 2):
            # Both machines have 2 processors: tasks of 2 are one on each, and one of them may be kept busy.
            folder = out / f"swept-{at_once}"
            busy = []
            if at_once == 1:
                import ray

                busy = [ray.remote(lambda: time.sleep(3600)).options(num_cpus=2).remote()]
            _, took = timed(lambda folder=folder: tipi.ray.sweep(MODEL, [dataset], folder, cpus=2, **options))
            for one in busy:
                ray.cancel(one, force=True)
            assert lines(folder) == wanted
            print(f"{at_once} cell(s) at a time: {took:.1f} s; results as alone", flush=True)


class _Str(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("length", ctypes.c_size_t)]


def by_the_library(paths):
    """The same call through the C functions: what the library takes where no Python is around it."""
    made = ctypes.CDLL(str(ROOT / "target/debug/libtipi_c.so"))
    made.tipi_last_error.restype = _Str
    text = lambda of: _Str(os.fsencode(of), len(os.fsencode(of)))  # noqa: E731

    def call(name, *arguments):
        if getattr(made, name)(*arguments):
            raise RuntimeError(made.tipi_last_error().data)

    gpu, model, pictures = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    call("tipi_gpu_open", 1, None, ctypes.byref(gpu))
    call("tipi_model_load", gpu, text(MODEL), None, None, ctypes.byref(model))
    call("tipi_pictures_new", ctypes.byref(pictures))
    for path in paths:
        call("tipi_pictures_add_file", pictures, text(path))

    def encode():
        features = ctypes.c_void_p()
        call("tipi_model_encode", model, pictures, None, ctypes.byref(features))
        made.tipi_free(features)

    return encode


def overhead():
    paths = PICTURES[:32]
    model = tipi.Model(MODEL)
    ours, theirs = lambda: model.encode_images(paths), by_the_library(paths)
    for _ in range(5):
        ours(), theirs()
    times, busy = {ours: [], theirs: []}, {ours: [], theirs: []}
    for _ in range(150):
        for work in (ours, theirs):
            before = time.process_time()
            times[work].append(timed(work)[1])
            busy[work].append(time.process_time() - before)
    for name, of in (("seconds", times), ("seconds of the processors", busy)):
        mine, base = statistics.median(of[ours]), statistics.median(of[theirs])
        print(f"32 pictures, median of 150, {name}: Python {mine * 1e3:.2f} ms, library {base * 1e3:.2f} ms, {mine / base - 1:+.2%}")
    per_call = []
    for _ in range(2000):
        per_call.append(timed(lambda: model.encode_images([]))[1])
    print(f"a call with no picture: {statistics.median(per_call) * 1e6:.0f} µs")

    def several(threads, calls=60):
        def work():
            for _ in range(calls // threads):
                ours()

        all_of = [threading.Thread(target=work) for _ in range(threads)]
        begun = time.perf_counter()
        for thread in all_of:
            thread.start()
        for thread in all_of:
            thread.join()
        return 32 * calls / (time.perf_counter() - begun)

    rates = {1: [], 2: []}
    for _ in range(7):
        for threads in rates:
            rates[threads].append(several(threads))
    one, two = (statistics.median(rates[threads]) for threads in (1, 2))
    print(f"pictures a second, median of 7: one thread {one:.0f}, two threads {two:.0f} ({two / one - 1:+.1%})")


def rounds(count):
    device = tipi.Device()

    def resident():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    for number in range(count + 1):
        model = tipi.Model(MODEL, device=device)
        model.encode_images([PICTURES[0], PICTURES[1].read_bytes(), np.zeros((30, 40, 3), np.uint8)])
        model.zero_shot(["a bell", "a cat"]).predict(PICTURES[:1])
        del model
        if number in (5, 10, 20, 50) or number % 100 == 0:
            gc.collect()
            print(f"after {number} rounds: {resident():.1f} MB resident, {device.allocated_bytes} bytes on the device", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["embed", "sweep", "overhead", "rounds"])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1000)
    given = parser.parse_args()
    {
        "embed": lambda: embed(given.pictures),
        "sweep": sweep,
        "overhead": overhead,
        "rounds": lambda: rounds(given.rounds),
    }[given.what]()
