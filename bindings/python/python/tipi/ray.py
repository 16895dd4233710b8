"""Embedding and evaluating on many machines, with Ray (``pip install tipi[ray]``)::

    import ray
    import tipi.ray

    pictures = ray.data.read_binary_files("pictures", include_paths=True)
    tipi.ray.embed(pictures, "openai/clip-vit-base-patch32").write_parquet("features")

Ray places the work, hands it out and does it again where a worker or a machine is lost.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import ray
import ray.data
import ray.exceptions

import tipi
from tipi._models import loaded
from tipi.arrow import Embedder, check_columns
from tipi.types import How, Settings, Texts

Precision = Literal["f32", "f16", "int8"]
Depth = Literal["clip", "scale"]


def own_device() -> int | None:
    """The device for this worker: the GPU that Ray gave it, as its number among `tipi.devices()`; None, which stands for the best one,
    where Ray gave none."""
    given = ray.get_gpu_ids()
    if not given:
        return None
    gpus = [device for device in tipi.devices() if device.kind.endswith("GPU")]
    here = ", ".join(f"{device.name} ({device.kind})" for device in tipi.devices()) or "none"
    try:
        return gpus[int(given[0])].index
    except (IndexError, ValueError):
        raise tipi.errors.InvalidError(
            f"device: Ray gave this worker GPU {given[0]} on {ray.util.get_node_ip_address()}, which is none of the {len(gpus)} GPUs "
            f"that tipi sees there (devices: {here}): is a Vulkan driver installed? Or say device="
        ) from None


class _Worker(Embedder):
    """Ray makes one for each device."""

    def device(self) -> str | int | None:
        if self._device is None:
            self._device = own_device()
        return self._device


def _gpus(asked: float | None) -> float:
    """GPUs of each piece of work: one where the cluster has some."""
    if not ray.is_initialized():
        ray.init()
    if asked is not None:
        return asked
    return 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0


def _cpus_of_nodes() -> list[float]:
    """The processors of each machine of the cluster that has some."""
    cpus = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    return [count for count in cpus if count > 0] or [1]


def embed(
    dataset: Any,
    model: str | os.PathLike[str],
    *,
    column: str = "bytes",
    name: str | None = None,
    strict: bool = False,
    workers: int | None = None,
    batch: int = 256,
    gpus: float | None = None,
    cpus: float = 1,
    device: str | int | None = None,
    precision: Precision = "f32",
    lora: str | os.PathLike[str] | None = None,
    depth: Depth = "clip",
) -> Any:
    """A Ray dataset of pictures with their features in the place of files' contents, for `write_parquet` and all else. As with all of
    Ray's, work begins when it is asked for. Rows come in any order.

    dataset: a `ray.data.Dataset`, say of `ray.data.read_binary_files(..., include_paths=True)`, `read_parquet(...)` or
    `read_webdataset(..., decoder=None)`.
    model: a folder, a file of weights, or a model on the hub. All machines need it under the same name.
    column, name, strict: as `tipi.arrow.Embedder` takes them, which says what is in the result.
    workers: how many devices are used at once; None takes all GPUs of the cluster, or its machines where it has none.
    batch: pictures that a worker is handed at once.
    gpus, cpus: what Ray sets aside for each worker; gpus=None takes 1 where the cluster has GPUs.
    device, precision, lora, depth: as `tipi.Model` takes them; device=None takes the GPU that Ray gave the worker.
    """
    gpus = _gpus(gpus)
    known = dataset.schema(fetch_if_missing=False)
    if known is not None:
        check_columns(known.names, column, name)
    if workers is None:
        workers = int(ray.cluster_resources().get("GPU", 0) / gpus) if gpus else len(_cpus_of_nodes())
    if workers < 1 or batch < 1:
        what = "workers" if workers < 1 else "batch"
        raise tipi.errors.InvalidError(f"{what}: at least one is needed (of {ray.cluster_resources().get('GPU', 0):g} GPUs, {gpus:g} each)")
    return dataset.map_batches(
        _Worker,
        fn_constructor_args=(_whole(model),),
        fn_constructor_kwargs={
            "column": column,
            "name": name,
            "strict": strict,
            "device": device,
            "precision": precision,
            "lora": None if lora is None else _whole(lora),
            "depth": depth,
        },
        batch_format="pyarrow",
        batch_size=batch,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=gpus or None,
        num_cpus=cpus,
    )


def _whole(path: str | os.PathLike[str]) -> str:
    """A path as workers, which are in folders of their own, know it; names on the hub stay as they are."""
    return os.path.abspath(path) if os.path.exists(path) else os.fspath(path)


@dataclasses.dataclass(frozen=True)
class _Work:
    """What all cells of a sweep have in common."""

    model: str
    device: str | int | None
    precision: Precision
    lora: str | None
    depth: Depth
    correction: bytes | None
    options: dict[str, Any]


Cell = tuple[str, "int | None", int]
"""A method, shots and a seed."""

# What says whether results go together, and what is there already.
_STATE = ("settings.json", "results.jsonl", "test.json", "overlap.json")


@functools.lru_cache(maxsize=1)
def _features() -> tempfile.TemporaryDirectory[str]:
    """Where this process keeps features from cell to cell. It goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="tipi-features-")


def _cell(work: _Work, dataset: tipi.Dataset, cell: Cell, files: dict[str, bytes]) -> dict[str, bytes]:
    """Evaluates a cell in a folder of its own, which begins with some files, and gives what is there then."""
    device = work.device if work.device is not None else own_device()
    model = loaded(work.model, device, work.precision, work.lora, work.depth)
    correction = None if work.correction is None else model.open_correction(work.correction)
    method, shots, seed = cell
    with tempfile.TemporaryDirectory(prefix="tipi-cell-") as folder:
        _write(pathlib.Path(folder), files)
        model.evaluate(
            [dataset], folder, methods=[method], shots=[shots], seeds=[seed], correction=correction, features=_features().name, **work.options
        )  # fmt: skip
        return _read(pathlib.Path(folder))


def _write(folder: pathlib.Path, files: dict[str, bytes]) -> None:
    for name, contents in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)


def _read(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sweep(
    model: str | os.PathLike[str],
    datasets: Sequence[tipi.Dataset | str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    methods: Sequence[str],
    shots: Iterable[int | None] = (1, 2, 4, 8, 16),
    seeds: Iterable[int] = (1, 2, 3),
    settings: dict[str, Settings] | None = None,
    templates: str | Texts | None = None,
    words: str | None = None,
    how: How | None = None,
    correction: tipi.Correction | None = None,
    adapters: bool = False,
    strict: bool = False,
    batch: int | None = None,
    foreign: str | os.PathLike[str] | None = None,
    retries: int = 3,
    gpus: float | None = None,
    cpus: float | None = None,
    device: str | int | None = None,
    precision: Precision = "f32",
    lora: str | os.PathLike[str] | None = None,
    depth: Depth = "clip",
) -> tipi.Evaluation:
    """What `tipi.Model.evaluate` does, each cell (a method, a number of shots and a seed on a dataset) as a task of Ray's. Results are
    gathered in `folder` of this machine as they come, in the files of `tipi eval`: a sweep that was stopped goes on where it was, and
    `tipi eval --out` and `tipi report` go on from it.

    model, datasets: under the same paths on all machines, and on this one. Nothing else needs to be shared.
    methods: names of `tipi.methods()`.
    retries: how often a cell is begun again where its worker or machine was lost.
    gpus, cpus: what Ray sets aside for each cell. None takes one GPU where the cluster has some; without, a machine's processors.
    All else is as `tipi.Model.evaluate` and `tipi.Model` take it.
    """
    gpus = _gpus(gpus)
    if cpus is None:
        cpus = 1 if gpus else min(_cpus_of_nodes())
    opened = [one if isinstance(one, tipi.Dataset) else tipi.Dataset(one) for one in datasets]
    names = [dataset.name for dataset in opened]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise tipi.errors.InvalidError(f"datasets: there are two of the name '{twice[0]}': rename a folder")
    options: dict[str, Any] = {
        "settings": None if settings is None else dict(settings),
        "templates": templates,
        "words": words,
        "how": how,
        "adapters": adapters,
        "strict": strict,
        "batch": batch,
        "foreign": None if foreign is None else _whole(foreign),
    }
    work = ray.put(
        _Work(
            _whole(model), device, precision, None if lora is None else _whole(lora), depth,
            None if correction is None else correction.to_bytes(), options,
        )
    )  # fmt: skip
    cells: list[Cell] = [(method, shot, seed) for seed in seeds for shot in shots for method in methods]
    if not cells or not opened:
        raise tipi.errors.InvalidError("there is nothing to run: give datasets, methods, shots and seeds")
    task = ray.remote(_cell).options(num_cpus=cpus, num_gpus=gpus, max_retries=retries, retry_exceptions=False)
    out, waiting = pathlib.Path(folder), []
    for dataset in opened:
        there = out / dataset.name
        state = {f"{dataset.name}/{name}": (there / name).read_bytes() for name in _STATE if (there / name).is_file()}
        done = set()
        if f"{dataset.name}/results.jsonl" in state:
            done = {(one.method, one.shots, one.seed) for one in tipi.Evaluation(out).outcomes if one.dataset == dataset.name}
        # One that is done says whether settings and pictures still are what they were.
        left = [cell for cell in cells if cell not in done] or cells[:1]
        files = ray.put(state)
        waiting += [task.remote(work, dataset, cell, files) for cell in left]
    try:
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1)
            with tempfile.TemporaryDirectory(prefix="tipi-gather-") as part:
                _write(pathlib.Path(part), ray.get(ready[0]))
                tipi.Evaluation.gather(out, [part])
    except ray.exceptions.RayTaskError as error:
        # The library's own error, which says what is wrong; where it happened stands above it.
        raise error.cause from error
    finally:
        for one in waiting:
            ray.cancel(one)
    return tipi.Evaluation(out)
