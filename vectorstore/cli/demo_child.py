"""What the demo runs in other processes: `python -m vectorstore.cli.demo_child`, told by lines on stdin and stdout.

add FOLDER EMBEDDER    loads the model, says "ready", waits for a line, adds one concept, says "added"
write FOLDER           adds batches until it is killed; says "start N" before and "done N" after each commit
"""

from __future__ import annotations

import sys

import numpy as np

import vectorstore as vs

NEW = {
    "id": "demo-selfie",
    "name": "selfie",
    "domain": "noun.artifact",
    "definition": "a photograph that one takes of oneself, with a telephone held at arm's length",
}
BATCH = 250
TAG = "demo-crash"


def add_one(folder: str, embedder: str) -> None:
    """One concept, embedded and committed by this process."""
    with vs.open(folder, vs.SentenceEmbedder() if embedder == "minilm" else embedder, auto_publish=False) as store:
        store.concepts.search("loads the model", k=1)
        _say("ready")
        sys.stdin.readline()
        store.concepts.upsert(NEW)
        _say("added")


def write_on(folder: str) -> None:
    """Batches of records with vectors of their own, for ever: each is one commit, so it happens whole or not at all."""
    random = np.random.default_rng(0)
    with vs.open(folder, embedder=None, auto_publish=False) as store:
        dim = store.stats()["kinds"]["concepts"]["dim"]
        done = 0
        while True:
            records = [
                {"id": f"{TAG}-{number:06}", "name": f"record {number}", "tags": [TAG]}
                for number in range(done, done + BATCH)
            ]
            _say(f"start {done + BATCH}")
            store.concepts.add(records, vectors=random.standard_normal((BATCH, dim)), source="demo")
            done += BATCH
            _say(f"done {done}")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "add":
        add_one(*sys.argv[2:])
    else:
        write_on(*sys.argv[2:])
