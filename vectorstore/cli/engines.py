"""The commands engines list, feed, settle, renew and drop."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from vectorstore.cli.app import FINDINGS, AsJson, IndexAddress, KindName, StorePath, open_store
from vectorstore.cli.output import duration, note, say_json, table

Seconds = Annotated[float, typer.Option("--timeout", help="Seconds that it may take.", min=0)]


def register(app: typer.Typer) -> None:
    """Put this module's commands into the application."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help=engines.__doc__)
    for name, command in (("list", show), ("feed", feed), ("settle", settle), ("renew", renew), ("drop", drop)):
        group.command(name)(command)
    app.add_typer(group, name="engines", rich_help_panel="The store")


def engines() -> None:
    """Engines outside that answer searches: what they have not been told yet, and telling them."""


def show(store: StorePath, as_json: AsJson = False) -> None:
    """Show which engine answers for which kind, what waits to be sent to it, and what is wrong.

    \b
    vectorstore engines list kb
    """
    with open_store(store, read_only=True) as opened:
        found = opened.remotes.status()
    if as_json:
        say_json({"engines": [dataclasses.asdict(each) for each in found]})
        return
    header = ["kind", "space", "engine", "collection", "status", "waiting", "for", "problem"]
    rows = [
        (
            *(each.kind, each.space, each.address, each.collection, each.status, each.waiting),
            duration(each.lag) if each.waiting else "",
            each.problem or "",
        )
        for each in found
    ]
    typer.echo(table(header, rows, right=[5, 6]) if rows else "no engine outside is fed from this store")


def feed(store: StorePath, index: IndexAddress = None, timeout: Seconds = 3600.0, as_json: AsJson = False) -> None:
    """Tell the engine all that waits; the first time that fills it. Exit code 1 when the time was not enough.

    `vectorstore serve` does it all the time. Killed, it goes on where it stopped.

    \b
    vectorstore engines feed kb --index milvus://milvus.example:19530
    """
    with open_store(store, "none", index, auto_publish=False) as opened:
        done = opened.remotes.sync(timeout)
        found = opened.remotes.status()
    waiting = sum(each.waiting for each in found)
    if as_json:
        say_json({"done": done, "waiting": waiting, "engines": [dataclasses.asdict(each) for each in found]})
    elif not found:
        typer.echo("nothing to serve: a kind of fewer than 10,000 vectors is served when it is named, --index KIND=...")
    else:
        typer.echo(f"{waiting} vectors wait" if waiting else "the engine has everything")
    if not done:
        raise typer.Exit(FINDINGS)


def settle(store: StorePath, kind: KindName, index: IndexAddress = None, timeout: Seconds = 600.0) -> None:
    """Have the engine index what is new of a kind, so that it is found as fast as the rest.

    \b
    vectorstore engines settle kb concepts --index milvus://milvus.example:19530
    """
    with open_store(store, "none", index, auto_publish=False) as opened:
        opened.remotes.settle(kind, timeout)
    note(f"{kind} is settled")


def renew(store: StorePath, kind: KindName, index: IndexAddress = None, timeout: Seconds = 3600.0) -> None:
    """Fill new collections of a kind, which take over when they are ready; searches go on meanwhile.

    Exit code 1 when the time was not enough: the next one that feeds goes on.

    \b
    vectorstore engines renew kb concepts --index milvus://milvus.example:19530
    """
    with open_store(store, "none", index, auto_publish=False) as opened:
        opened.remotes.renew(kind)
        done = opened.remotes.sync(timeout)
    note(f"{kind} is renewed" if done else f"{kind} is still being filled")
    if not done:
        raise typer.Exit(FINDINGS)


def drop(store: StorePath, kind: KindName, index: IndexAddress = None) -> None:
    """Let no engine serve a kind any more: its collections are dropped.

    Before, an index is built here that takes over, if there are enough vectors for one.

    \b
    vectorstore engines drop kb concepts --index milvus://milvus.example:19530
    """
    from vectorstore.sync.publish import PUBLISH_ROWS

    with open_store(store, "none", index, auto_publish=False) as opened:
        if len(opened.collection(kind)) >= PUBLISH_ROWS:
            opened.publish(kind)
        opened.remotes.drop(kind)
    note(f"{kind} is searched here again")
