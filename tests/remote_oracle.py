"""The store beside a dict with brute force (tests/test_oracle.py), with searches answered by an engine outside.

Both handles read through the engine; it is told of changes only now and then, by either of them.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import rule

import vectorstore as vs
import vectorstore.store  # its modules are patched
from tests.test_oracle import StoreAgainstModel, handles, run


class FedStoreAgainstModel(StoreAgainstModel):
    """`address` is set by those who derive from it."""

    address = ""
    plans: set[str] = set()

    def __init__(self) -> None:
        super().__init__()
        self.patches.enter_context(mock.patch("vectorstore.sync.feeding.SETTLE", 0.0))
        self.patches.enter_context(mock.patch("vectorstore.sync.feeding.BATCH", 5))

    def opened(self) -> vs.Store:
        address = self.address or f"faiss:{self.folder / 'engine'}"
        return vs.open(
            self.folder / "kb", embedder=None, metric={"concepts": self.metric}, auto_publish=False,
            index={"concepts": address},
        )  # fmt: skip

    @rule(which=handles)
    def feed(self, which: int) -> None:
        """To the end."""
        assert self.stores[which].remotes.sync(60)
        assert all(each.waiting == 0 for each in self.stores[which].remotes.status())

    @rule(which=handles, steps=st.integers(1, 3))
    def feed_some(self, which: int, steps: int) -> None:
        for _ in range(steps):
            self.stores[which].remotes._fed().feed()

    @rule(which=handles)
    def proved(self, which: int) -> None:
        assert self.stores[which].check().findings == ()

    def same(self, hits: vs.Hits[Any], expected: list[tuple[str, float]], k: int) -> None:
        super().same(hits, expected, k)
        type(self).plans.add(hits.plan.name)

    def teardown(self) -> None:
        if self.stores:
            self.stores[0].remotes.sync(60)
            assert self.stores[0].check().findings == ()
            if self.stores[0].remotes.status():  # the collection does not outlive the example
                self.stores[0].remotes.drop("concepts")
        super().teardown()


def passes(address: str, examples: int, steps: int) -> None:
    """The machine's lives with an engine at the address, which then has answered some of its questions."""

    class Machine(FedStoreAgainstModel):
        plans: set[str] = set()

    Machine.address = address
    for more in (1, 2, 4):  # in few short lives the engine may be asked nothing; longer rows of them begin alike
        run(Machine, examples * more, steps)
        if {"engine", "exact"} <= Machine.plans:
            return
    raise AssertionError(f"answered by {Machine.plans} alone")
