"""Types for those who annotate. Importing `tipi` does not import this."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, Union

import numpy as np
import numpy.typing as npt

from tipi._native import Progress


class Image(Protocol):
    """An image of PIL's."""

    @property
    def size(self) -> tuple[int, int]: ...
    def convert(self, mode: str) -> Any: ...
    def tobytes(self) -> bytes: ...


Picture: TypeAlias = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, npt.NDArray[np.uint8], Image]
"""A path, a file's bytes, a PIL image, or uint8 (height, width, 3), (height, width, 4) or (height, width)."""

Pictures: TypeAlias = Union[Iterable[Picture], npt.NDArray[Any]]
"""A list of pictures, or an array (n, height, width, 3)."""

Texts: TypeAlias = Union[Sequence[str], npt.NDArray[np.str_]]
"""A list of texts."""

Features: TypeAlias = npt.NDArray[np.float32]
"""float32 (n, width), C-contiguous, un-normalised."""

OnProgress: TypeAlias = Callable[[Progress], object]
"""What `progress=` takes."""

Value: TypeAlias = Union[bool, int, float, str, None, Sequence["Value"], Mapping[str, "Value"]]
"""What a setting may be."""

Settings: TypeAlias = Mapping[str, Value]
"""Settings by name."""


class How(TypedDict, total=False):
    """How pictures are seen and weights searched."""

    key_views: int
    """Random views averaged into each cache key; 0 takes the picture itself."""
    augment: bool
    """Whether training sees random views, or the pictures as they are."""
    views: int
    """Random views that training draws from; 0 for a fresh view of each picture every epoch."""
    grid: str
    """The search's grid: paper, standard, tip-adapter or ranges."""
    judge_by: Literal["left-out", "validation"]
    """What weights and confidence rest on."""


class Evidence(TypedDict):
    """Pictures that confidence rests on."""

    validation: int
    left_out: int


class Coverage(TypedDict):
    """How often sets of classes hold the right one."""

    wanted: float
    """The probability that was asked for."""
    held: float
    """The share of test pictures whose set held the right class."""
    size: float
    """Mean number of classes in a set."""
    supported: bool
    """Whether the evidence was enough; otherwise sets hold all classes."""


class Foreign(TypedDict):
    """How well pictures of no class are told from test pictures."""

    by: str
    auroc: float
    """The probability that a test picture is more familiar than a foreign one."""
    kept: float
    """The share of test pictures that are kept where 95 % are to be."""
    refused: float
    """The share of foreign pictures that are refused then."""
    pictures: int
    supported: bool
