"""One long verb over a store, which says when it is in the middle of it; leaves with 130 when interrupted."""

from __future__ import annotations

import sys
from multiprocessing.synchronize import Event
from pathlib import Path

import vectorstore as vs


def main(verb: str, folder: Path, begun: Event) -> None:
    def told(done: int, of: int) -> None:
        if not begun.is_set():
            begun.set()

    with vs.open(folder / "kb", auto_publish=False) as store:
        try:
            while True:  # until the signal comes: all of these can be done again
                if verb == "import":
                    store.import_(folder / "more.jsonl", kind="concepts", on_conflict="overwrite", progress=told)
                elif verb == "export":
                    (folder / "out.jsonl").unlink(missing_ok=True)
                    store.export(folder / "out.jsonl", progress=told)
                elif verb == "rebuild":
                    store.rebuild("concepts", progress=told)
                elif verb == "compact":
                    ids = [f"c{n}" for n in range(0, 3000, 3)]
                    store.concepts.delete(ids)
                    store.concepts.purge(ids, progress=told)
                    store.concepts.add({"id": id, "name": f"name {id}"} for id in ids)
                    store.compact(progress=told)
                else:
                    store.clusters.fit(n=20, progress=told)
        except KeyboardInterrupt:
            sys.exit(130)
