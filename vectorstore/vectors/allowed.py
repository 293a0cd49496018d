"""What a filter lets through, as positions of one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vectorstore.vectors.arrays import Positions, Vids, lengths
from vectorstore.vectors.exact import gather
from vectorstore.vectors.index import Index, Restricted
from vectorstore.vectors.segments import Segment

EXACT_FILTER_NUMBERS = 1_000_000
"""At most so many numbers (allowed rows x dimensions) are scored exactly. Of 117,659 x 384 the default index takes
0.27, 0.34 and 0.43 ms for 1,200, 2,300 and 4,100 allowed rows, the exact comparison where they lie 0.31, 0.44 and 0.64:
up to 2,600 rows leaving nothing out costs at most 0.1 ms, and less from the second search on (`together`)."""

DEAR = 16
"""To propose one more candidate costs an index as much as so many exact comparisons cost a filter. Of 117,659 rows that
a filter thins out to a tenth, flat RaBitQ took 9.7 ms and a RaBitQ graph 72; comparing all that are left takes 2.2."""

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

    def together(self, segments: Sequence[Segment], offsets: Positions) -> Segment | None:
        """The allowed vectors side by side, where they are few: read twice as fast as from all over the segments."""
        dim = segments[0].vectors.shape[1]
        if len(self.positions) * dim > EXACT_FILTER_NUMBERS:
            return None
        if "_together" not in self.__dict__:  # as cached_property does: two threads may both make it, and it is equal
            vectors = gather(segments, offsets, self.positions)
            self.__dict__["_together"] = Segment(0, vectors, lengths(vectors), 0, None)
        made: Segment = self.__dict__["_together"]
        return made

    @property
    def bytes(self) -> int:
        """Memory that keeping this costs, the restricted index and the vectors included."""
        width = 0 if self.index is None or self.index.codes is None else self.index.codes.shape[1]
        held: Segment | None = self.__dict__.get("_together")
        vectors = 0 if held is None else held.vectors.nbytes
        return self.positions.nbytes + min(self.indexed * width, SUBSET_BYTES) + vectors

    def among(self, positions: Positions) -> npt.NDArray[np.bool_]:
        """Which of the positions are allowed."""
        if not len(self.positions):
            return np.zeros(len(positions), dtype=bool)
        places = np.searchsorted(self.positions, positions)
        found: npt.NDArray[np.bool_] = self.positions[np.minimum(places, len(self.positions) - 1)] == positions
        return found


@dataclass(frozen=True, eq=False)
class Asked:
    """A filter that an engine outside can be asked itself, so that its rows need not be looked for.

    Attributes:
        expression: in the engine's words.
        holding: those of some vids that it holds for, by the catalog.
        resolve: all its rows; see `resolved`.
    """

    expression: str
    holding: Callable[[Vids], Vids]
    resolve: Callable[[], Allowed]

    def resolved(self) -> Allowed:
        """What the filter lets through, looked for in the catalog, within the read that made this."""
        return self.resolve()
