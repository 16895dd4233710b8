"""Progress bars for long calls."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tipi import Progress


class Bar:
    """A bar of tqdm's (``pip install tqdm``), one for each stretch of work::

        with tipi.progress.Bar() as bar:
            features = model.encode_images(pictures, progress=bar)

    In notebooks it is drawn as a widget where tqdm can. Keywords are handed to tqdm.
    """

    def __init__(self, **keywords: Any) -> None:
        from tqdm.auto import tqdm

        self._make = tqdm
        self._keywords = keywords
        self._bar: Any = None
        self._what = ""

    def __call__(self, progress: Progress) -> None:
        if self._bar is None or self._what != progress.what or progress.done < self._bar.n:
            self.close()
            self._what = progress.what
            self._bar = self._make(**{"total": progress.total, "desc": progress.what, **self._keywords})
        self._bar.set_postfix_str(progress.beside, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """Ends the bar that is drawn. What comes next draws another."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
