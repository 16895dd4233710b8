"""Embedding and evaluating on a cluster. The longer runs are in many.py."""

import io
import re
import tarfile
import threading

import numpy as np
import pytest

import tipi
from conftest import ROOT, TEMPLATE
from test_evaluation import HOW, METHODS, lines

ray = pytest.importorskip("ray", reason="RAY IS NOT TESTED: it is not installed (pip install 'ray[data]')")

import pyarrow.parquet as pq  # noqa: E402

import tipi.ray  # noqa: E402
from clusters import kill_one, two_machines  # noqa: E402

MODEL = ROOT / "weights/picto"


@pytest.fixture(scope="module", autouse=True)
def cluster():
    cluster = two_machines()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def shard(paths, tmp_path_factory):
    """Pictures as WebDataset has them, and one that is cut short."""
    path = tmp_path_factory.mktemp("shards") / "pictures-000.tar"
    with tarfile.open(path, "w") as tar:
        for number, contents in enumerate([*(path.read_bytes() for path in paths), paths[0].read_bytes()[:90]]):
            entry = tarfile.TarInfo(f"{number:04}.png")
            entry.size = len(contents)
            tar.addfile(entry, io.BytesIO(contents))
    return path


def features(table, column):
    """By name; each once."""
    names = table[column].to_pylist()
    assert len(set(names)) == len(names)
    return dict(zip(names, table["features"].to_pylist(), strict=True))


def test_a_killed_worker_loses_nothing(model, cluster, tmp_path):
    """One of two is killed while it works."""
    paths = sorted((ROOT / "examples/pictos/shifted").rglob("*.png"))[:400]
    pictures = ray.data.read_binary_files([str(path) for path in paths], include_paths=True)
    killed = []
    thread = threading.Thread(target=kill_one, args=(cluster, "MapBatches(_Worker)).", killed, 2))
    thread.start()
    tipi.ray.embed(pictures, MODEL, batch=16).write_parquet(str(tmp_path))
    thread.join()
    table = pq.read_table(tmp_path)
    found = features(table, "path")
    assert killed and set(found) == {str(path) for path in paths}
    assert np.array_equal(np.array([found[str(path)] for path in paths], np.float32), model.encode_images(paths))
    assert set(table["model"].to_pylist()) == {model.digest()} and table["error"].null_count == len(paths)


def test_a_broken_picture_of_a_shard_is_named_and_leaves_the_rest_alone(shard, paths, model):
    pictures = ray.data.read_webdataset(str(shard), decoder=None, include_paths=True)
    rows = {row["__key__"]: row for row in tipi.ray.embed(pictures, MODEL, column="png").take_all()}
    broken = rows.pop(f"{len(paths):04}")
    assert np.array_equal([rows[f"{number:04}"]["features"] for number in range(len(paths))], model.encode_images(paths))
    says = f"{shard}: {len(paths):04}: cannot decode picture"
    assert broken["features"] is None and broken["error"].startswith(says)
    with pytest.raises(ray.exceptions.RayTaskError, match=re.escape(says)):
        tipi.ray.embed(pictures, MODEL, column="png", strict=True).materialize()


def test_what_is_wrong_is_named(shard, paths):
    pictures = ray.data.from_items([{"path": str(path), "bytes": path.read_bytes()} for path in paths[:2]])
    for call, says in [
        (lambda: tipi.ray.embed(pictures, MODEL, column="png"), "column: there is no column 'png'; there are path, bytes"),
        (lambda: tipi.ray.embed(pictures, MODEL, name="title"), "name: there is no column 'title'"),
        (lambda: tipi.ray.embed(pictures, MODEL, workers=0), "workers: at least one is needed"),
        (lambda: tipi.ray.embed(pictures, MODEL, batch=0), "batch: at least one is needed"),
    ]:
        with pytest.raises(tipi.errors.InvalidError, match=re.escape(says)):
            call()
    shards = ray.data.read_webdataset(str(shard), decoder=None)
    for call, says in [
        (lambda: tipi.ray.embed(shards, MODEL), "column: there is no column 'bytes'; there are __key__, png, __url__"),
        (lambda: tipi.ray.embed(pictures, "no/model/there"), "no/model/there"),
    ]:
        with pytest.raises(ray.exceptions.RayTaskError, match=re.escape(says)):
            call().materialize()
    # A machine without any driver.
    bare = {"env_vars": {"VK_ICD_FILENAMES": "/nowhere.json", "VK_DRIVER_FILES": "/nowhere.json"}}
    with pytest.raises(ray.exceptions.RayTaskError, match="NoDeviceError: "):
        ray.get(ray.remote(lambda: tipi.Model(MODEL)).options(runtime_env=bare).remote())


def test_a_sweep_is_the_sequential_evaluation(model, folder, cluster, tmp_path):
    dataset = tipi.Dataset(folder)
    options = {"methods": METHODS, "shots": [1, 2], "seeds": [1, 2], "templates": TEMPLATE, "how": HOW}
    whole = model.evaluate([dataset], tmp_path / "whole", **options)
    out = tmp_path / "swept"
    killed = []
    thread = threading.Thread(target=kill_one, args=(cluster, "ray::_cell", killed))
    thread.start()
    # Half of it, then all, as when it was stopped in between.
    tipi.ray.sweep(MODEL, [dataset], out, cpus=1, **{**options, "seeds": [1]})
    thread.join()
    swept = tipi.ray.sweep(MODEL, [folder], out, cpus=1, **options)
    assert killed
    assert lines(out, dataset.name) == lines(tmp_path / "whole", dataset.name)
    assert [(mean.method, mean.shots, mean.accuracies) for mean in swept.means] == [
        (mean.method, mean.shots, mean.accuracies) for mean in whole.means
    ]

    def nothing_begins(progress):
        raise AssertionError(progress)

    again = model.evaluate([dataset], out, progress=nothing_begins, **options)
    assert repr(again) == repr(swept) == repr(tipi.ray.sweep(MODEL, [dataset], out, cpus=1, **options))
    for change, says in [
        ({"templates": "a {}"}, "other settings"),
        ({"methods": ["no-such"]}, "no-such"),
        ({"methods": []}, "nothing to run"),
    ]:
        with pytest.raises(tipi.Error, match=says):
            tipi.ray.sweep(MODEL, [dataset], out, cpus=1, **{**options, **change})
    with pytest.raises(tipi.Error, match="no/model/there"):
        tipi.ray.sweep("no/model/there", [dataset], tmp_path / "none", cpus=1, **options)
    with pytest.raises(tipi.Error, match="two of the name"):
        tipi.ray.sweep(MODEL, [dataset, folder], tmp_path / "none", **options)


def test_the_guides_code_runs(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/src/many.md").read_text(encoding="utf-8")
    for name in ("weights", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, f"many.md: {block.splitlines()[0]}", "exec"), names)
    said = capsys.readouterr().out
    assert "examples/pictos/shifted/bell" in said and '"tip-adapter"' in said and "report.html" in said


def test_a_gpu_that_the_driver_does_not_have_is_named(paths, cluster):
    """By Ray's books there is one, which is what makes it the default."""
    if any(device.kind.endswith("GPU") for device in tipi.devices()):
        pytest.skip("there is a GPU here")
    cluster.add_node(num_cpus=2, num_gpus=1)
    pictures = ray.data.from_items([{"bytes": paths[0].read_bytes()}])
    with pytest.raises(ray.exceptions.RayTaskError, match="device: Ray gave this worker GPU 0 on .*, which is none of the 0 GPUs"):
        tipi.ray.embed(pictures, MODEL).materialize()
