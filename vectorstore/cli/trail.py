"""The commands trail list, trail verify and trail rotate."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from vectorstore.cli.app import FINDINGS, AsJson, StorePath, open_store
from vectorstore.cli.output import bar, note, say_json, table

PANEL = "The store"


def register(app: typer.Typer) -> None:
    """Put this module's commands into the application."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help=trail.__doc__)
    for name, command in (("list", show), ("verify", verify), ("rotate", rotate)):
        group.command(name)(command)
    app.add_typer(group, name="trail", rich_help_panel=PANEL)


def trail() -> None:
    """Who changed what and when, in a chain that shows every alteration."""


def show(
    store: StorePath,
    operation: Annotated[
        str | None, typer.Option("--operation", help="Only this one: add, purge, violation, ...", show_default=False)
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only of this kind.", show_default=False)] = None,
    id: Annotated[
        str | None, typer.Option("--id", help="With --kind: only about this record.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many entries.")] = 20,
    after: Annotated[
        str | None, typer.Option("--after", help="The `next` of the page before.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries, newest first. Refused calls have the operation violation.

    \b
    vectorstore trail list kb --operation purge
    vectorstore trail list kb --kind concepts --id default:king --json
    """
    with open_store(store, read_only=True) as opened:
        page = opened.trail.list(operation=operation, kind=kind, id=id, limit=limit, after=after)
    if as_json:
        say_json({"entries": [dataclasses.asdict(each) for each in page], "total": page.total, "next": page.next})
        return
    header = ["number", "commit", "time", "actor", "operation", "kind", "records", "ids and details"]
    rows = [
        (
            each.number,
            each.seq,
            each.at.isoformat(timespec="seconds"),
            each.actor,
            each.operation,
            each.kind,
            each.count or None,
            " ".join([*each.ids[:5], "..." if len(each.ids) > 5 else "", json.dumps(each.details)]),
        )
        for each in page
    ]
    typer.echo(table(header, rows, right=[0, 1, 6]))
    note(f"{len(page)} of {page.total}" + (f"; more with --after {page.next}" if page.next else ""))


def verify(
    store: StorePath,
    anchor: Annotated[
        str | None,
        typer.Option("--anchor", help="What an earlier verify printed: the chain must lead through it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute the whole chain again, through files and catalog. Exit code 1 when something was altered or removed.

    Whoever can write the catalog can make a whole new chain: keep the anchor that this prints somewhere else.

    \b
    vectorstore trail verify kb
    vectorstore trail verify kb --anchor 21:1c9f6f41...
    """
    with open_store(store, read_only=True) as opened, bar("reading", shown=not as_json) as told:
        report = opened.trail.verify(anchor, told)
    if as_json:
        say_json({"ok": report.ok, **dataclasses.asdict(report)})
    else:
        for finding in report.findings:
            typer.echo(typer.style("✗ ", fg="red") + finding)
        if report.ok:
            typer.echo(
                f"{typer.style('✓ ', fg='green')}{report.entries} entries, {report.files} files: the chain holds"
            )
        typer.echo(f"anchor {report.anchor}")
    if report.findings:
        raise typer.Exit(FINDINGS)


def rotate(
    store: StorePath,
    keep: Annotated[int, typer.Option("--keep", help="How many of the newest entries stay in the catalog.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Move entries into an immutable file of the store; the chain goes on.

    \b
    vectorstore trail rotate kb --keep 1000
    """
    with open_store(store) as opened:
        made = opened.trail.rotate(keep)
    if as_json:
        say_json({"file": made})
    else:
        typer.echo(made or "nothing to move")
