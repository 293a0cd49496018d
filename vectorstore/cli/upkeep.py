"""Commands about the store as a whole: init, kinds, stats, check, rebuild, compact; and names others know these by."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vectorstore.cli.app import FINDINGS, AsJson, EmbedderName, IndexAddress, KindName, StorePath, open_store, place_of
from vectorstore.cli.output import bar, duration, fields, say_json, size_of, table

if TYPE_CHECKING:
    from vectorstore.sync.rebuild import RebuildReport

PANEL = "The store"
FIRST = 5
"""So many kinds are named to who makes a store; most never need the others."""


def register(app: typer.Typer) -> None:
    """Put this module's commands into the application."""
    for command in (init, kinds, stats, check, rebuild, compact):
        app.command(rich_help_panel=PANEL)(command)
    app.command("verify", hidden=True, rich_help_panel=PANEL)(check)
    app.command("reindex", hidden=True, rich_help_panel=PANEL)(rebuild)
    app.command(hidden=True, rich_help_panel=PANEL)(repair)


def init(store: StorePath, as_json: AsJson = False) -> None:
    """Make an empty store; one that is there already is left as it is.

    The embedder is chosen by the first text that is added: `add --embedder hash`, MiniLM without.

    \b
    vectorstore init kb
    """
    with open_store(store, create=True) as opened:
        records = sum(len(opened[name]) for name in opened.kinds)
        found: dict[str, Any] = {"path": str(opened.path), "kinds": opened.kinds, "records": records}
    if as_json:
        say_json(found)
    else:
        first, others = ", ".join(found["kinds"][:FIRST]), len(found["kinds"]) - FIRST
        more = f" and {others} others (vectorstore kinds {shlex.quote(str(store))})" if others > 0 else ""
        typer.echo(f"{found['path']} is a store with the kinds {first}{more}")


def kinds(store: StorePath, as_json: AsJson = False) -> None:
    """Name the kinds of records, how many there are, and their fields.

    \b
    vectorstore kinds kb
    """
    from vectorstore.records import Record, schema_of

    with open_store(store, read_only=True) as opened:
        found: list[dict[str, Any]] = [
            {
                "kind": name,
                "records": len(opened[name]),
                "fields": {column.name: column.type for column in schema_of(opened[name].kind).columns},
            }
            for name in opened.kinds
        ]
    if as_json:
        say_json(found)
        return
    common = set(Record.model_fields)
    rows = [(kind["kind"], kind["records"], ", ".join(n for n in kind["fields"] if n not in common)) for kind in found]
    typer.echo(table(["kind", "records", "fields of its own"], rows, right=[1]))
    typer.echo(f"and in all of them: {', '.join(Record.model_fields)}")


def stats(store: StorePath, as_json: AsJson = False) -> None:
    """Count records, vectors and bytes, and tell the state of each index.

    \b
    vectorstore stats kb
    vectorstore stats kb --json | jq .kinds.concepts.index
    """
    with open_store(store, read_only=True) as opened:
        found = opened.stats()
    if as_json:
        say_json(found)
        return
    typer.echo(
        fields(
            {
                "store": found["path"],
                "on disk": size_of(found["bytes"]),
                "format": found["format"],
                "commits": found["seq"],
            }
        )
    )
    typer.echo()
    header = ["kind", "records", "deleted", "vectors", "dim", "metric", "segments", "waiting", "index"]
    used = {name: entry for name, entry in found["kinds"].items() if entry["records"] or entry["deleted"]}
    rows = [_stats_row(name, entry) for name, entry in used.items()]
    if rows:
        typer.echo(table(header, rows, right=[1, 2, 3, 4, 6, 7]))
    if empty := [name for name in found["kinds"] if name not in used]:
        typer.echo(typer.style(f"empty: {', '.join(empty)}", dim=True))


def _stats_row(name: str, entry: dict[str, Any]) -> list[object]:
    index = entry.get("index")
    shown = f"{index['recipe']}, {index['rows']} rows, {size_of(index['bytes'])}" if index else ""
    if not index and entry["vectors"]:
        shown = "none: exact search"
    counts = [entry[key] for key in ("records", "deleted", "vectors")]
    return [name, *counts, *(entry.get(key) for key in ("dim", "metric", "segments", "pending")), shown]


def check(
    store: StorePath,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be made again from the sources.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --repair: only say what would be done.")] = False,
    embedder: EmbedderName = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Prove that rows, files, indexes and full text agree. Exit code 1 when something does not.

    --repair rebuilds indexes and full text, and embeds the records of lost segments again where they have text.
    With --index what that engine holds is compared too, and told again where it differs.

    \b
    vectorstore check kb
    vectorstore check kb --repair --dry-run
    """
    if dry_run and not repair:
        raise typer.BadParameter("only together with --repair", param_hint="--dry-run")
    actions: tuple[str, ...] = ()
    elsewhere = isinstance(place_of(store), str) and not repair
    with open_store(store, embedder, index, read_only=elsewhere, auto_publish=False) as opened:
        if repair:
            with bar("looking" if dry_run else "mending", shown=not as_json) as told:
                report = opened.repair(dry_run=dry_run, progress=told)
            actions, findings = report.actions, report.remaining
            found: dict[str, Any] = {"ok": not findings, "dry_run": dry_run, "actions": list(actions)}
        else:
            with bar("checking", shown=not as_json) as told:
                checked = opened.check(told)
            findings = checked.findings
            found = {"ok": checked.ok, **dataclasses.asdict(checked)}
    found["findings"] = [dataclasses.asdict(finding) for finding in findings]
    if as_json:
        say_json(found)
    else:
        for action in actions:
            typer.echo(f"{'would' if dry_run else 'done:'} {action}")
        for finding in findings:
            typer.echo(typer.style("✗ ", fg="red") + str(finding))
        typer.echo(_verdict(found, repair))
    if findings:
        raise typer.Exit(FINDINGS)


def repair(
    store: StorePath,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    embedder: EmbedderName = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """The same as `check --repair`.

    \b
    vectorstore repair kb --dry-run
    """
    check(store, True, dry_run, embedder, index, as_json)


def _verdict(found: dict[str, Any], repair: bool) -> str:
    if found["findings"]:
        count = len(found["findings"])
        return f"{count} finding{'s' if count > 1 else ''}" + (" left" if repair else "")
    if repair:
        return typer.style("✓ ", fg="green") + ("nothing to mend" if not found["actions"] else "all is well")
    counted = ", ".join(f"{found[name]} {name}" for name in ("records", "vectors", "segments", "indexes"))
    litter = f"; {len(found['litter'])} leftover files of a crash, swept later" if found["litter"] else ""
    return f"{typer.style('✓ ', fg='green')}all agrees: {counted}{litter}"


def rebuild(
    store: StorePath,
    kind: KindName,
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE]", help="exact, simhash512, rabitq or a .toml file.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build an index by a recipe, measure it, and use it if it is good enough; else the old one stays.

    \b
    vectorstore rebuild kb concepts
    vectorstore rebuild kb concepts indexes/hnsw32.toml
    """
    with open_store(store) as opened, bar("measuring", shown=not as_json) as told:
        report = opened.rebuild(kind, recipe, told)
    if as_json:
        say_json(dataclasses.asdict(report))
    else:
        typer.echo(rebuild_table(report))


def rebuild_table(report: RebuildReport) -> str:
    """Before and after, and how long it took."""
    rows = [
        (when, found.recipe, f"{found.recall:.4f}", f"{found.milliseconds:.2f}", size_of(found.bytes))
        for when, found in (("before", report.before), ("after", report.after))
    ]
    header = ["", "recipe", "recall@10", "ms/query", "index"]
    shown = table(header, rows, right=[2, 3, 4])
    return f"{shown}\n{report.rows} vectors of {report.space} indexed and measured in {duration(report.seconds)}"


def compact(
    store: StorePath,
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="Only this kind.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Drop replaced and deleted vectors from the disk, and merge small segments.

    \b
    vectorstore compact kb
    """
    with open_store(store) as opened:
        if kind is not None:
            opened.collection(kind)
        with bar("compacting", shown=not as_json) as told:
            reports = opened.compact(kind, told)
    if as_json:
        say_json([{**dataclasses.asdict(report), "bytes_saved": report.bytes_saved} for report in reports])
        return
    header = ["kind", "removed", "kept", "segments before", "after", "saved"]
    rows = [
        (
            r.space,
            r.vectors_removed,
            r.vectors_kept,
            r.segments_before,
            r.segments_after,
            size_of(max(0, r.bytes_saved)),
        )
        for r in reports
    ]
    typer.echo(table(header, rows, right=[1, 2, 3, 4, 5]) if rows else "nothing to do")
