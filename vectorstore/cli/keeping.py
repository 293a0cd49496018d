"""Commands about a store over time: backup, restore, snapshot, maintain."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Annotated, Any

import typer

import vectorstore as vs
from vectorstore.cli.app import FINDINGS, AsJson, StorePath, open_store
from vectorstore.cli.output import bar, duration, fields, say_json, size_of, table
from vectorstore.errors import ValidationError

PANEL = "The store over time"
Place = Annotated[
    str, typer.Argument(metavar="BACKUPS", help="A folder for backups, or a URL: s3://bucket/kb.", show_default=False)
]
Keep = Annotated[int | None, typer.Option("--keep", metavar="N", help="Keep the newest N.", show_default=False)]
KeepFor = Annotated[
    str | None, typer.Option("--keep-for", metavar="SPAN", help='Keep those of the last "30 days".', show_default=False)
]
GenerationId = Annotated[
    str | None, typer.Option("--generation", metavar="ID", help="Which one; left out: the newest.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Put this module's commands into the application."""
    for command in (backup, restore, snapshot, maintain):
        app.command(rich_help_panel=PANEL)(command)


def _span(text: str | None, option: str) -> timedelta | None:
    from vectorstore.keeping import as_span

    return None if text is None else as_span(text, option)


def backup(
    store: Annotated[
        str,
        typer.Argument(metavar="STORE", help="The store's folder, or - with --list or --verify.", show_default=False),
    ],
    backups: Place,
    keep: Keep = None,
    keep_for: KeepFor = None,
    listed: Annotated[bool, typer.Option("--list", help="Only show the generations that are there.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Only prove that what is there can be restored.")] = False,
    as_json: AsJson = False,
) -> None:
    """Save a store while others go on writing; what is there already is not copied again.

    --verify reads everything and exits with 1 when something is wrong.

    \b
    vectorstore backup kb /mnt/backups/kb --keep 7
    vectorstore backup kb s3://shelf/kb --keep-for "30 days"
    vectorstore backup - /mnt/backups/kb --list
    vectorstore backup - /mnt/backups/kb --verify
    """
    if listed:
        _list(backups, as_json)
        return
    if verify:
        _verify(backups, as_json)
        return
    from pathlib import Path

    span = _span(keep_for, "--keep-for")
    with (
        open_store(Path(store), embedder="none", auto_publish=False) as opened,
        bar("copying", shown=not as_json) as told,
    ):
        report = opened.backup(backups, keep=keep, keep_for=span, progress=told)
    if as_json:
        say_json(dataclasses.asdict(report))
        return
    left = f"; left out, damaged: {', '.join(report.left_out)}" if report.left_out else ""
    typer.echo(
        f"{report.generation}: commit {report.seq}, {report.files} files, {size_of(report.bytes)}, of which "
        f"{size_of(report.new_bytes)} new, in {duration(report.seconds)}{left}"
    )
    if report.removed:
        typer.echo(f"removed {len(report.removed)} older: {', '.join(report.removed)}")


def _list(place: str, as_json: bool) -> None:
    found = vs.Backups(place).list()
    if as_json:
        say_json([dataclasses.asdict(each) for each in found])
        return
    rows = [(each.id, f"{each.made_at:%Y-%m-%d %H:%M:%S}", each.seq, each.files, size_of(each.bytes)) for each in found]
    typer.echo(table(["generation", "made at", "commit", "files", "bytes"], rows, right=[2, 3, 4]) if rows else "none")


def _verify(place: str, as_json: bool) -> None:
    with bar("reading", shown=not as_json) as told:
        report = vs.Backups(place).verify(progress=told)
    if as_json:
        say_json({"ok": report.ok, **dataclasses.asdict(report)})
    else:
        for problem in report.problems:
            typer.echo(typer.style("✗ ", fg="red") + problem)
        if report.ok:
            mark = typer.style("✓ ", fg="green")
            typer.echo(
                f"{mark}{len(report.generations)} generations, {report.files} files, {size_of(report.bytes)}: whole"
            )
    if not report.ok:
        raise typer.Exit(FINDINGS)


def restore(
    backups: Place,
    store: StorePath,
    generation: GenerationId = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Exchange a store that is there, in one step; it is kept beside.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a store from a backup; everything is checked before anything takes its place.

    \b
    vectorstore restore /mnt/backups/kb kb-again
    vectorstore restore s3://shelf/kb kb --replace --generation 01K5Y3V0Q2M3W7G6V4B8N9X1ZT
    """
    with bar("copying", shown=not as_json) as told:
        report = vs.restore(backups, store, generation=generation, replace=replace, progress=told)
    if as_json:
        say_json(dataclasses.asdict(report))
        return
    typer.echo(f"{report.path} is the store as of commit {report.seq}, {report.at:%Y-%m-%d %H:%M:%S} UTC")
    if report.replaced is not None:
        typer.echo(f"what was there is now {report.replaced}")
    if report.left_out:
        typer.echo(f"not in the backup (run: vectorstore check --repair): {', '.join(report.left_out)}")


def snapshot(
    store: StorePath,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Left out: list.", show_default=False)] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Forget the snapshot of that name.")] = False,
    history: Annotated[
        str | None,
        typer.Option("--history", metavar="SPAN", help='Keep "30 days" of history, or "none".', show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Name the store as it is now, to look back at it later; or list the names.

    \b
    vectorstore snapshot kb "before the import"
    vectorstore snapshot kb
    vectorstore snapshot kb "before the import" --drop
    vectorstore snapshot kb --history "30 days"
    """
    if drop and name is None:
        raise typer.BadParameter("needs the name of a snapshot", param_hint="--drop")
    with open_store(store, embedder="none", auto_publish=False, read_only=name is None and history is None) as opened:
        if history is not None:
            opened.history = None if history == "none" else _span(history, "--history")
        if name is not None:
            opened.snapshots.drop(name) if drop else opened.snapshots.add(name)
        found = opened.snapshots.list()
        kept = opened.history
    if as_json:
        say_json({"history": None if kept is None else str(kept), "snapshots": [dataclasses.asdict(s) for s in found]})
        return
    if kept is not None:
        whole = kept == timedelta(days=kept.days)
        typer.echo(f"history of {f'{kept.days} days' if whole else kept} is kept")
    rows = [(each.name, f"{each.at:%Y-%m-%d %H:%M:%S}", each.seq) for each in found]
    typer.echo(table(["snapshot", "at (UTC)", "commit"], rows, right=[2]) if rows else "no snapshots")


def maintain(
    store: StorePath,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is due.")] = False,
    retired: Annotated[
        float | None,
        typer.Option("--retired", metavar="SHARE", help="Compact from this share of retired on.", show_default=False),
    ] = None,
    purge_after: Annotated[
        str | None,
        typer.Option("--purge-after", metavar="SPAN", help='Erase what was deleted "30 days" ago.', show_default=False),
    ] = None,
    declare: Annotated[
        bool, typer.Option("--declare", help="Keep these as the store's policy, for writers too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Do what is due by the store's policy: purge, forget old history, compact, give space back.

    \b
    vectorstore maintain kb --dry-run
    vectorstore maintain kb --retired 0.2 --purge-after "30 days" --declare
    """
    asked: dict[str, Any] = {"retired_share": retired, "purge_after": _span(purge_after, "--purge-after")}
    asked = {key: value for key, value in asked.items() if value is not None}
    if declare and dry_run:
        raise ValidationError("--declare: not together with --dry-run")
    with open_store(store, embedder="none", auto_publish=False) as opened:
        policy = dataclasses.replace(opened.policy or vs.Policy(), **asked)
        if declare:
            opened.policy = policy
        report = opened.maintain(policy, dry_run=dry_run)
    if as_json:
        say_json({**dataclasses.asdict(report), "policy": dataclasses.asdict(policy)})
        return
    for action in report.actions:
        typer.echo(f"{'due: ' if dry_run else ''}{action}")
    sizes = {"on disk": size_of(report.bytes_after), "before": size_of(report.bytes_before)}
    typer.echo(fields(sizes) if report.actions and not dry_run else "" if report.actions else "nothing is due")
