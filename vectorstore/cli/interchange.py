"""Commands that bring records in and out: import, export, convert."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from vectorstore.bars import Bar
from vectorstore.cli.app import AsJson, EmbedderName, StorePath, open_store
from vectorstore.cli.arguments import as_json as read_json
from vectorstore.cli.output import note, say_json, size_of
from vectorstore.errors import StoreError, ValidationError

PANEL = "In and out"
Kind = Annotated[
    str | None,
    typer.Option("--kind", "-k", help="Of the records, where the file does not say it.", show_default=False),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="jsonl, json, parquet, arrow, csv, wordnet, words, faiss, chroma, softlogic; else as its name says.",
        show_default=False,
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="NAME=VALUE",
        help="Of the format: relations (wordnet), words, limit (words), ids, space (faiss), collection (chroma).",
        show_default=False,
    ),
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="jsonl, json, parquet, arrow, csv; left out: as the name says.", show_default=False),
]
Vectors = Annotated[
    str, typer.Option("--vectors", help="given: those that were brought; all: also those made from texts; none.")
]


def register(app: typer.Typer) -> None:
    """Put this module's commands into the application."""
    app.command("import", rich_help_panel=PANEL)(import_)
    app.command(rich_help_panel=PANEL)(export)
    app.command(rich_help_panel=PANEL)(convert)


def import_(
    store: StorePath,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A file or a folder.", show_default=False)],
    kind: Kind = None,
    format: From = None,
    on_conflict: Annotated[
        str, typer.Option("--on-conflict", help="For ids that are there: error, overwrite, merge or skip.")
    ] = "error",
    context: Annotated[
        str | None, typer.Option("--context", help="For records that name none.", show_default=False)
    ] = None,
    no_vectors: Annotated[bool, typer.Option("--no-vectors", help="Leave its vectors out.")] = False,
    option: Options = None,
    embedder: EmbedderName = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="cosine, ip or l2, for the first vectors only.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring in everything that a file or a folder holds, or nothing: a bad line is named and nothing is written.

    \b
    vectorstore import kb backup.jsonl.gz
    vectorstore import kb concepts.csv --kind concepts --on-conflict merge
    vectorstore import kb /usr/share/wordnet
    vectorstore import kb glove.6B.50d.txt --from words -o limit=100000 --embedder none
    """
    options: dict[str, Any] = {} if metric is None else {"metric": metric}
    with open_store(store, embedder, **options) as opened, Bar("importing") as told:
        done = opened.import_(
            source,
            format,
            kind=kind,
            on_conflict=on_conflict,  # type: ignore[arg-type]  # the store says which there are
            context=context,
            vectors=not no_vectors,
            progress=told,
            **_options(option),
        )
    _tell_import(done, as_json)


def export(
    store: StorePath,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A new file, or folder.", show_default=False)],
    kind: Annotated[
        list[str] | None, typer.Option("--kind", "-k", help="Only this kind; repeatable.", show_default=False)
    ] = None,
    context: Annotated[
        list[str] | None, typer.Option("--context", help="Only this context; repeatable.", show_default=False)
    ] = None,
    vectors: Vectors = "given",
    deleted: Annotated[bool, typer.Option("--deleted", help="Also a line for each deletion.")] = False,
    format: Format = None,
    as_json: AsJson = False,
) -> None:
    """Write records to a new file as of one commit; a folder takes a table for each kind.

    \b
    vectorstore export kb kb.jsonl.gz
    vectorstore export kb concepts.parquet --kind concepts --vectors all
    vectorstore export kb tables --format csv
    """
    with open_store(store, read_only=True) as opened, Bar("exporting") as told, _disk():
        done = opened.export(
            target,
            kinds=kind,
            contexts=context,
            vectors=vectors,  # type: ignore[arg-type]  # the store says which there are
            deleted=deleted,
            format=format,
            progress=told,
        )
    _tell_export(done, as_json)


def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A file or a folder.", show_default=False)],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A new file, or folder.", show_default=False)],
    kind: Kind = None,
    from_: From = None,
    format: Format = None,
    vectors: Vectors = "all",
    metric: Annotated[str, typer.Option("--metric", help="What vectors of no space of ours are compared by.")] = "l2",
    option: Options = None,
    as_json: AsJson = False,
) -> None:
    """Turn one format into another, by way of a scratch store: what comes out was checked. Nothing is embedded.

    \b
    vectorstore convert kb.jsonl.gz tables --format parquet
    vectorstore convert chroma-folder birds.jsonl --from chroma -o collection=birds
    """
    with tempfile.TemporaryDirectory(prefix="vectorstore-") as scratch:
        kept: dict[str, Any] = {"auto_publish": False, "metric": _metric_of(source, metric)}
        with open_store(Path(scratch) / "kb", "none", create=True, **kept) as opened:
            with Bar("reading") as told:
                read = opened.import_(source, from_, kind=kind, progress=told, **_options(option))
            with Bar("writing") as told, _disk():
                came = {name for counts in (read.added, read.overwritten) for name in counts}
                done = opened.export(
                    target,
                    kinds=[name for name in opened.kinds if name in came],
                    vectors=vectors,  # type: ignore[arg-type]  # the store says which there are
                    format=format,
                    progress=told,
                )
    for text in read.notes:
        note(text)
    _tell_export(done, as_json)


def _metric_of(source: Path, asked: str) -> Any:
    """The metrics of the spaces that an export of ours names, else the one asked for."""
    from vectorstore.interchange.readers import spaces_of

    return {name.partition(".")[0]: space.metric for name, space in spaces_of(source).items()} or asked


def _options(texts: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValidationError(f"--option: expected name=value, got {text!r}")
        found[name] = read_json(value) if value in ("true", "false") or value.isdigit() else value
    return found


@contextmanager
def _disk() -> Iterator[None]:
    """What the disk refuses, as errors of ours."""
    try:
        yield
    except FileExistsError as error:
        raise ValidationError(str(error)) from None
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{error.filename or 'the target'}: {error.strerror or error}; nothing was written") from None


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _tell_import(done: Any, as_json: bool) -> None:
    if as_json:
        say_json({**dataclasses.asdict(done), "records": done.records})
        return
    for word in ("added", "overwritten", "merged", "skipped", "unchanged", "deleted"):
        counts = getattr(done, word)
        if counts:
            typer.echo(f"{word}: {_counts(counts)}")
    for what, count in done.left_out.items():
        typer.echo(f"left out: {count} {what}")
    for text in done.notes:
        note(text)
    typer.echo(f"{done.records} records of {done.path} were written, {done.vectors} vectors came with them")


def _tell_export(done: Any, as_json: bool) -> None:
    if as_json:
        say_json(dataclasses.asdict(done))
        return
    typer.echo(f"{_counts(done.records) or 'no records'}; {done.vectors} vectors; {size_of(done.bytes)} in {done.path}")
