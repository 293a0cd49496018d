"""What a filter lets through, as positions of one snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vectorstore.vectors.arrays import Positions
from vectorstore.vectors.index import Index, Restricted

EXACT_FILTER_NUMBERS = 1_500_000
"""At most so many numbers (allowed rows x dimensions) are scored exactly: 4,000 rows of 384, about half a
millisecond. Measured: benchmarks/lifecycle.py."""

SUBSET_BYTES = 8 * 1024 * 1024
"""A filter may keep a copy of its rows' codes of at most this size; bigger ones filter the whole index's proposals."""


@dataclass(frozen=True, eq=False)
class Allowed:
    """Positions that a filter lets through, ascending, none retired; made for one snapshot."""

    positions: Positions
    index: Index | None = None

    @cached_property
    def indexed(self) -> int:
        """How many of the positions the index covers; they come first."""
        return 0 if self.index is None else int(np.searchsorted(self.positions, self.index.rows))

    @cached_property
    def restricted(self) -> Restricted | None:
        """The index over the allowed rows alone, if it can be had and is small enough to keep."""
        if self.index is None or self.index.codes is None:
            return None
        if self.indexed * self.index.codes.shape[1] > SUBSET_BYTES:
            return None
        return self.index.restricted(self.positions[: self.indexed])

    @property
    def bytes(self) -> int:
        """Memory that keeping this costs, the restricted index included."""
        width = 0 if self.index is None or self.index.codes is None else self.index.codes.shape[1]
        return self.positions.nbytes + min(self.indexed * width, SUBSET_BYTES)

    def among(self, positions: Positions) -> npt.NDArray[np.bool_]:
        """Which of the positions are allowed."""
        if not len(self.positions):
            return np.zeros(len(positions), dtype=bool)
        places = np.searchsorted(self.positions, positions)
        found: npt.NDArray[np.bool_] = self.positions[np.minimum(places, len(self.positions) - 1)] == positions
        return found
