"""A bar for every verb that tells its progress: a line of a terminal, an element of a notebook's page.

store.clusters.fit(progress=vs.Bar("fitting"))
with vs.Bar("importing") as told:  # the line is ended whatever happens
store.import_("kb.jsonl.gz", progress=told)
"""

from __future__ import annotations

import sys
import time
from typing import Any, Self, TextIO

BETWEEN = 0.1
"""A bar is drawn again after so many seconds, at the earliest."""
DELAY = 0.5
"""A terminal's bar is for what takes longer than so many seconds."""
QUIET = 5.0
"""Likewise where nobody looks at it: a log gets few lines."""


class Bar:
    """How far something is; given as `progress=` to any verb that has it, again and again.

    A bar may be interrupted like any call: what is raised then ends the verb, and the store stays as it was committed.

    Args:
        what: what is being done, in a word.
        file: where a terminal's bar is drawn; standard error.
    """

    def __init__(self, what: str = "", file: TextIO | None = None) -> None:
        self.what = what
        self._file = file
        self._line: Any = None
        self._place: Any = None
        self._began = self._drawn = 0.0
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        """So much is done of so much."""
        if self._file is None and in_notebook():
            self._show(done, total)
        else:
            self._draw(done, total)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the line."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _draw(self, done: int, total: int) -> None:
        if self._line is None:
            from tqdm import tqdm

            file = self._file or sys.stderr
            quiet = not file.isatty()
            self._line = tqdm(
                desc=self.what or "done",
                total=total,
                delay=DELAY,
                file=file,
                mininterval=QUIET if quiet else BETWEEN,
                ncols=90 if quiet else None,
                dynamic_ncols=not quiet,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]",
            )
        self._line.total = total
        self._line.update(done - self._line.n)
        if done >= total:
            self.__exit__()

    def _show(self, done: int, total: int) -> None:
        from IPython.display import display

        now = time.monotonic()
        if self._place is None or done < self._done:
            self._place, self._began = None, now
        self._done = done
        if self._place is not None and done < total and now - self._drawn < BETWEEN:
            return
        self._drawn = now
        shown = Shown(self.what, done, total, now - self._began)
        if self._place is None:
            self._place = display(shown, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._place.update(shown)
        if done >= total:
            self._place = None


class Shown:
    """A bar as it is at a moment, as notebooks show it."""

    def __init__(self, what: str, done: int, total: int, seconds: float) -> None:
        self._of = (what, done, total, seconds)

    def __repr__(self) -> str:
        what, done, total, seconds = self._of
        return f"{what + ': ' if what else ''}{done:,} of {total:,}, {seconds:.1f} s"

    def _repr_html_(self) -> str:
        from vectorstore.html import progress

        _, done, total, _ = self._of
        return progress(done, total, repr(self))


def in_notebook() -> bool:
    """Whether what is displayed goes to a page; asks nothing of IPython where nobody has loaded it."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")
