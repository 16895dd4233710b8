"""Progress, Ctrl-C, threads, memory, time."""

import _thread
import gc
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import tipi
from conftest import QUICK, ROOT, TEMPLATE


def resident():
    """Resident memory in MB; None where the system does not say."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
    except OSError:
        return None


def test_progress_is_told(model, adapter, paths):
    seen = []
    main = threading.get_ident()

    def tell(progress):
        assert threading.get_ident() == main
        seen.append((progress.what, progress.done, progress.total, progress.share, progress.elapsed, progress.beside))

    model.encode_images(paths * 3, progress=tell)
    assert {one[0] for one in seen} == {"encoding pictures"} and {one[2] for one in seen} == {len(paths) * 3}
    done = [one[1] for one in seen]
    assert done == sorted(done) and done[-1] == len(paths) * 3 and seen[-1][3] == 1
    seen.clear()
    adapter.predict(paths, progress=tell)
    assert seen[-1][1] == len(paths)


def test_what_a_callback_raises_stops_the_work(model, paths):
    class Enough(Exception):
        pass

    def enough(progress):
        if progress.done:
            raise Enough(progress)

    begun = time.perf_counter()
    model.encode_images(paths * 2)
    once = time.perf_counter() - begun
    begun = time.perf_counter()
    with pytest.raises(Enough):
        model.encode_images(paths * 200, progress=enough)
    assert time.perf_counter() - begun < 20 * once + 1
    with pytest.raises(TypeError, match="not callable"):
        model.encode_images(paths, progress=3)


def test_a_bar_is_drawn(model, paths, capsys):
    pytest.importorskip("tqdm")
    from tipi.progress import Bar

    with Bar(ascii=True) as bar:
        model.encode_images(paths, progress=bar)
        model.encode_images(paths, progress=bar)
    drawn = capsys.readouterr().err
    assert "encoding pictures: 100%" in drawn and drawn.count("\n") == 2
    assert f"{len(paths)}/{len(paths)}" in drawn


@pytest.mark.parametrize("what", ["encode", "fit", "texts"])
def test_ctrl_c_stops_within_a_submission(model, classes, paths, what):
    few = {name: of_class[:2] for name, of_class in classes.items()}
    begun, pressed = threading.Event(), []

    def fit(epochs, progress=None):
        model.fit(few, "pini", templates=TEMPLATE, how=QUICK, settings={"epochs": epochs}, progress=progress)

    def tell(progress):
        # Before, pictures are made of paths, which Ctrl-C ends as it ends all of Python's.
        if progress.done and (what != "fit" or progress.beside):
            begun.set()

    def press():
        begun.wait(60)
        time.sleep(0.3)
        pressed.append(time.perf_counter())
        _thread.interrupt_main()

    if what == "fit":
        # Kernels are compiled when they are first used, which nothing stops.
        fit(1)
    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        if what == "encode":
            model.encode_images(paths * 1000, progress=tell)
        elif what == "fit":
            fit(10000, tell)
        else:
            begun.set()
            model.encode_texts([f"an icon of number {i}" for i in range(100000)])
    late = time.perf_counter() - pressed[0]
    thread.join()
    assert late < 2, f"{late:.2f} s after Ctrl-C"
    # What was stopped left nothing behind that is wrong.
    assert np.array_equal(model.encode_images(paths[:2]), model.encode_images(paths[:2]))


def test_ctrl_c_is_not_taken_for_a_wrong_argument(model):
    class Slow:
        def __fspath__(self):
            raise KeyboardInterrupt

        def __iter__(self):
            raise KeyboardInterrupt

    for call in (lambda: model.encode_images([Slow()]), lambda: model.encode_texts(Slow()), lambda: model.open_adapter(Slow())):
        with pytest.raises(KeyboardInterrupt):
            call()


def test_other_threads_run_meanwhile(model, paths):
    ticks, stop = [0], threading.Event()

    def tick():
        while not stop.is_set():
            ticks[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begun = time.perf_counter()
    model.encode_images(paths * 8)
    took, counted = time.perf_counter() - begun, ticks[0]
    stop.set()
    thread.join()
    # A thread that is let run wakes up once in a few milliseconds, however busy the processor is.
    assert counted > 10 * took, (counted, took)


def test_threads_share_a_model(model, adapter, paths):
    alone = model.encode_images(paths), adapter.predict(paths).scores
    results, errors = {}, []

    def work(number):
        try:
            for _ in range(3):
                results[number] = (model.encode_images(paths), adapter.predict(paths).scores)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for features, scores in results.values():
        assert np.array_equal(features, alone[0]) and np.array_equal(scores, alone[1])


def test_memory_is_flat_over_rounds_of_load_encode_drop(paths):
    at = resident()
    if at is None:
        pytest.skip("the system does not say how much memory a process has")
    device = tipi.Device()

    def one():
        model = tipi.Model(ROOT / "weights/picto", device=device)
        model.encode_images([paths[0], paths[1].read_bytes(), np.zeros((30, 40, 3), np.uint8)])
        model.zero_shot(["a bell", "a cat"]).predict(paths[:1])

    for _ in range(5):
        one()
    gc.collect()
    before, on_device = resident(), device.allocated_bytes
    for _ in range(20):
        one()
    gc.collect()
    assert resident() - before < 24, "MB more after 20 rounds"
    assert device.allocated_bytes <= on_device


def test_importing_is_quick_and_brings_no_torch():
    # Time of the processor, since a machine may do other things besides.
    script = """
import sys, time
begun = time.process_time()
import tipi
took = time.process_time() - begun
print(took, sorted({"torch", "transformers", "sklearn", "numpy", "PIL", "tqdm", "pandas"} & set(sys.modules)))
"""
    said = [subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout.decode() for _ in range(5)]
    assert all(one.strip().endswith("[]") for one in said), said
    assert min(float(one.split()[0]) for one in said) < 0.2, said


def test_a_program_ends_in_good_order(paths):
    script = f"import tipi; m = tipi.Model({str(ROOT / 'weights/picto')!r}); print(len(m.encode_images([{str(paths[0])!r}])))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ended.returncode == 0 and ended.stdout == b"1\n", ended
    # Drivers may have something to say, but nothing of ours.
    assert b"Traceback" not in ended.stderr and b"panicked" not in ended.stderr, ended.stderr
