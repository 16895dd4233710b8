"""Settings as the library reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tipi.errors import InvalidError


def _plain(value: object) -> object:
    """Numbers of NumPy's as Python's, tuples of paths as text."""
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    fspath = getattr(value, "__fspath__", None)
    if callable(fspath):
        return fspath()
    raise TypeError(f"{type(value).__name__} is no number, text or list")


def text(argument: str, given: object) -> str:
    """A dict as JSON; `argument` names it in errors."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{argument}: expected a dict, not {type(given).__name__}")
    try:
        return json.dumps(dict(given), allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError(f"{argument}: {error}") from None
