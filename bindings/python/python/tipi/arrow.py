"""Features of tables of pictures, as Ray Data, Spark and others hand them over (needs pyarrow)::

    embed = tipi.arrow.Embedder("openai/clip-vit-base-patch32", column="content")
    features = embed(table)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

import tipi
from tipi._models import loaded

ADDED = ("picture", "features", "model", "precision", "error")
"""The columns that an `Embedder` adds."""

NAMES = ("path", "__key__")
"""Columns that name pictures where nobody says which does: those of Ray Data's and Spark's files, and of WebDataset."""


class Embedder:
    """Gives a table of pictures their features. The model is loaded for the first table, and stays.

    model: a folder, a file of weights, or a model on the hub, as `tipi.Model` takes it.
    column: where the pictures are: files' contents (binary), or a struct that has them as ``bytes``, as the hub's datasets do.
    name: the column that errors call a picture by; None takes ``path`` and ``__key__`` where they are there.
    strict: raise for the first picture that cannot be read. Otherwise its features are null, and ``error`` says why.
    device, precision, lora, depth: as `tipi.Model` takes them.

    The result has the table's other columns, in its order, and

    picture: SHA-256 of the file's contents, in hexadecimal.
    features: fixed-size list of float32, un-normalised.
    model: SHA-256 of the model, as `tipi.Model.digest` gives it.
    precision: how its matrices are kept.
    error: what is wrong with the picture; null where nothing is.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        column: str = "bytes",
        name: str | None = None,
        strict: bool = False,
        device: str | int | None = None,
        precision: Literal["f32", "f16", "int8"] = "f32",
        lora: str | os.PathLike[str] | None = None,
        depth: Literal["clip", "scale"] = "clip",
    ) -> None:
        self._model = os.fspath(model)
        self._column, self._name, self._strict = column, name, strict
        self._device, self._precision, self._depth = device, precision, depth
        self._lora = None if lora is None else os.fspath(lora)

    def device(self) -> str | int | None:
        """The device that the model is loaded on; None for the best one."""
        return self._device

    def __call__(self, table: pa.Table | pa.RecordBatch) -> pa.Table:
        """The table with features in the place of pictures."""
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        pictures = self._pictures(table)
        names = self._names(table)
        model = loaded(self._model, self.device(), self._precision, self._lora, self._depth)
        there = [row for row, picture in enumerate(pictures) if picture is not None]
        features, wrong = model.encode_images([one for one in pictures if one is not None], errors="keep")
        errors: list[str | None] = ["there is no picture"] * len(pictures)
        for place, (row, error) in enumerate(zip(there, wrong, strict=True)):
            errors[row] = None if error is None else _text(error, f"images[{place}]", names[row])
            if error is not None and self._strict:
                raise type(error)(errors[row])
        if self._strict and len(there) < len(pictures):
            row = next(row for row, picture in enumerate(pictures) if picture is None)
            raise tipi.errors.InvalidError(f"{names[row]}: there is no picture in the column '{self._column}'")
        readable = np.array([error is None for error in errors], dtype=bool)
        values = np.zeros((len(pictures), model.width), np.float32)
        values[readable] = features
        added = {
            "picture": pa.array([None if one is None else hashlib.sha256(one).hexdigest() for one in pictures], pa.string()),
            "features": pa.FixedSizeListArray.from_arrays(
                pa.array(values.reshape(-1)), model.width, mask=pa.array(~readable) if not readable.all() else None
            ),
            "model": pa.array([model.digest()] * len(pictures), pa.string()),
            "precision": pa.array([self._precision] * len(pictures), pa.string()),
            "error": pa.array(errors, pa.string()),
        }
        table = table.drop_columns([self._column])
        for column in ADDED:
            table = table.append_column(column, added[column])
        return table

    def _pictures(self, table: pa.Table) -> list[bytes | None]:
        """The files' contents."""
        check_columns(table.column_names, self._column, self._name)
        pictures = table.column(self._column).combine_chunks()
        kind = pictures.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            pictures = pictures.field("bytes")
            kind = pictures.type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise tipi.errors.InvalidError(
                f"column: '{self._column}' has {kind}: expected files' contents as binary, or a struct that has them as 'bytes'"
            )
        contents: list[bytes | None] = pictures.to_pylist()
        return contents

    def _names(self, table: pa.Table) -> list[str]:
        """What errors call the pictures."""
        given = [self._name] if self._name is not None else [name for name in NAMES if name in table.column_names]
        columns = [table.column(name).to_pylist() for name in given]
        if not columns:
            return [f"row {row} of a table" for row in range(table.num_rows)]
        return [": ".join(str(part) for part in parts) for parts in zip(*columns, strict=True)]


def check_columns(there: Sequence[str], column: str, name: str | None) -> None:
    """Fails where a table lacks a column that is asked for, or has one that an `Embedder` adds."""
    for argument, wanted in [("column", column), ("name", name)]:
        if wanted is not None and wanted not in there:
            raise tipi.errors.InvalidError(f"{argument}: there is no column '{wanted}'; there are {', '.join(there)}")
    taken = [one for one in ADDED if one in there and one != column]
    if taken:
        raise tipi.errors.InvalidError(f"column: the pictures' table has a column '{taken[0]}' already: rename it before")


def _text(error: Exception, called: str, name: str) -> str:
    """An error's words with the picture's own name."""
    said: Any = str(error)
    return said.replace(called, name, 1) if said.startswith(called) else f"{name}: {said}"
