"""What can go wrong, by kind. Each exception's text is one line that names the file, tensor or argument and says what would be
right; what it names stands in attributes besides. The kinds are those of the library in Rust, `tipi::Error`.

Arguments of a wrong type raise Python's own `TypeError`, and Ctrl-C `KeyboardInterrupt`.
"""

from __future__ import annotations

import pathlib


class Error(Exception):
    """Everything that can go wrong in tipi."""

    def __str__(self) -> str:
        # Kinds that are an OSError too would put a number before it.
        return str(self.args[0]) if self.args else ""


class NoDeviceError(Error):
    """No GPU at all is visible."""


class DeviceNotFoundError(Error, LookupError):
    """The device asked for by name or index is not there."""

    asked: str
    available: str


class UnsupportedError(Error):
    """The device lacks what the work needs."""

    device: str
    reason: str


class GpuError(Error):
    """The driver reported an error, or a command failed validation."""


class DeviceLostError(Error):
    """The device was lost (driver reset, watchdog, unplugged)."""


class OutOfMemoryError(Error, MemoryError):
    """A buffer does not fit the device's memory or its binding limits."""

    what: str
    needed: int
    """Bytes asked for."""
    why: str


class ResultNotFiniteError(Error, ArithmeticError):
    """What was computed on the GPU is NaN or infinite."""

    what: str
    wrong: int
    of: int
    row: int
    cause: str


class IoError(Error, OSError):
    """A file or folder could not be read or written."""

    path: pathlib.Path


class NotFoundError(IoError, FileNotFoundError):
    """A file or folder is not there."""


class ForeignError(Error):
    """A result would overwrite a file of another kind."""

    path: pathlib.Path
    found: str
    wanted: str


class SafetensorsError(Error):
    """A safetensors file is truncated, hostile or malformed."""

    path: pathlib.Path
    reason: str


class TorchError(Error):
    """A file of PyTorch's is truncated, hostile or malformed, or asks for more than tensors."""

    path: pathlib.Path
    reason: str


class MissingTensorError(Error):
    """A tensor that must be there is not."""

    path: pathlib.Path
    tensor: str


class TensorFormError(Error):
    """A tensor has another shape or dtype than it must have."""

    path: pathlib.Path
    tensor: str
    expected: str
    found: str


class NotFiniteError(Error):
    """A tensor holds NaN or infinity."""

    path: pathlib.Path
    tensor: str
    row: int
    column: int
    value: float


class ConfigError(Error):
    """A configuration file is malformed, or contradicts itself or the weights."""

    path: pathlib.Path
    reason: str


class ImageError(Error):
    """A picture could not be decoded."""

    path: pathlib.Path
    """The file, or the argument that the picture was: ``images[3]``."""
    reason: str


class DataError(Error):
    """A data folder or list cannot be used as asked."""

    path: pathlib.Path
    reason: str


class NoRootError(Error):
    """A known dataset was asked for by its name alone."""

    title: str
    folder: str


class AdapterFileError(Error):
    """An adapter file is malformed or belongs to another model."""

    path: pathlib.Path
    reason: str


class HubError(Error):
    """A model could not be fetched from the hub, or not found in its cache."""

    repo: str
    reason: str


class DivergedError(Error, ArithmeticError):
    """A training's loss is no longer a number."""

    what: str
    loss: float
    epoch: int
    rate: float


class StoppedError(Error):
    """The work was asked to stop, and has stopped."""


class InvalidError(Error, ValueError):
    """An argument or shape is out of range or contradicts another."""


class Note(UserWarning):
    """Something that people should know, but that is no failure."""
