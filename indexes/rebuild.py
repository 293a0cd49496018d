"""Rebuild the index of a kind by a recipe, and say what it changed.

    python indexes/rebuild.py demo-kb concepts indexes/hnsw32.toml

Prints recall@10, milliseconds a query, size and build time before and after. A recipe that misses its `min_recall` is
refused (exit code 8) and the old index stays. RECIPE is a built-in name or a .toml file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

import vectorstore as vs
from vectorstore.cli.app import exit_code
from vectorstore.cli.upkeep import rebuild_table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, metavar="STORE", help="the store's folder")
    parser.add_argument("kind", metavar="KIND", help="whose vectors: concepts, ...")
    parser.add_argument("recipe", metavar="RECIPE", help="exact, simhash512, rabitq or a .toml file")
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout")
    given = parser.parse_args(arguments)
    try:
        with vs.open(given.store, create=False) as store:
            report = store.rebuild(given.kind, given.recipe)
    except vs.VectorstoreError as error:
        print(f"rebuild.py: {error}", file=sys.stderr)
        return exit_code(error)
    typer.echo(json.dumps(dataclasses.asdict(report)) if given.json else rebuild_table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
