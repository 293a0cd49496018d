"""Feeds an engine and is killed at a step: python -m tests.feeding_child FOLDER ADDRESS STEP COUNT.

STEP is the name of a moment; the process kills itself with SIGKILL when it comes by for the COUNT-th time. "on and on"
feeds whatever comes, until somebody else kills it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import vectorstore as vs
from vectorstore.storage import remotes as rows
from vectorstore.sync import feeding

STEPS = (
    "before the intent",
    "after the intent",
    "before removing",
    "after removing",
    "before adding",
    "half added",
    "after adding",
    "before the mark",
    "within the mark",
    "after the mark",
)


def main(folder: str, address: str, step: str, count: int) -> None:
    left = [count]

    def at(name: str) -> None:
        if name == step:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: Any, name: str, before: str, after: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def wrapped(*args: Any, **options: Any) -> Any:
            at(before)
            result = inner(*args, **options)
            at(after)
            return result

        setattr(owner, name, wrapped)

    feeding.BATCH = 40
    feeding.SETTLE = 0.0
    change = rows.change_remote

    def changing(connection: Any, number: int, **values: object) -> None:
        if values.get("sending") is not None:
            at("before the intent")
        elif "applied" in values:
            at("before the mark")
        change(connection, number, **values)
        if "applied" in values:
            at("within the mark")

    rows.change_remote = changing
    with vs.open(folder, embedder=None, index={"concepts": address}, auto_publish=False) as store:
        feeder = store.remotes._fed()
        engines = store._sync.engines
        assert engines is not None
        make = engines.engine

        def engine(space: Any, row: Any) -> Any:
            made = make(space, row)
            if not hasattr(made, "watched"):
                made.watched = True
                around(made, "remove", "before removing", "after removing")
                add = made.add

                def adding(batch: Any, stamp: int) -> int:
                    at("after the intent")
                    at("before adding")
                    if step == "half added" and len(batch.vids) > 1:
                        some = len(batch.vids) // 2
                        part = type(batch)(
                            batch.vids[:some], batch.vectors[:some], batch.marks[:some], batch.values[:some]
                        )
                        add(part, row.applied or 0)  # the rest, and the stamp, never come
                        at("half added")
                    at_ = int(add(batch, stamp))
                    at("after adding")
                    return at_

                made.add = adding
            return made

        engines.engine = engine  # type: ignore[method-assign]
        around(feeder, "_send", "before sending", "after the mark")
        store.remotes.sync(60)
        while step == "on and on":
            store.remotes.sync(60)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
