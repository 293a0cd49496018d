"""Commands about work: `work` does what is pending, `workflows ...` makes it, shows it, stops it, takes it back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vectorstore.cli.app import FINDINGS, AsJson, Door, EmbedderName, KindName, StorePath, WhereText, open_store
from vectorstore.cli.arguments import as_where
from vectorstore.cli.output import duration, fields, progress_bar, say_json, table
from vectorstore.errors import IllegalMove, LeaseHeld
from vectorstore.ids import as_age

if TYPE_CHECKING:
    from vectorstore.store import Store
    from vectorstore.workflows import Item, Workflow

PANEL = "Work"
WorkflowId = Annotated[str, typer.Argument(metavar="ID", help="Of the workflow.", show_default=False)]
OwnId = Annotated[str | None, typer.Option("--id", help="A name of its own; left out: a new one.", show_default=False)]
Lenient = Annotated[bool, typer.Option("--lenient", help="Keep the others when an item fails; else all is undone.")]
Status = Annotated[
    str | None,
    typer.Option(
        "--status", help="pending, processing, completed, failed, cancelled or rolled_back.", show_default=False
    ),
]

workflows = typer.Typer(
    cls=Door, no_args_is_help=True, rich_markup_mode="rich", help="Make work, look at it, stop it, take it back."
)


def register(app: typer.Typer) -> None:
    """Put this module's commands into the application."""
    app.command(rich_help_panel=PANEL)(work)
    app.add_typer(workflows, name="workflows", rich_help_panel=PANEL)
    workflows.command("list")(list_)
    workflows.command("log")(log_)
    workflows.command("import")(import_)
    workflows.command("delete")(delete)
    for command in (show, process, cancel, rollback, retry, cleanup, health):
        workflows.command()(command)


def work(
    store: StorePath,
    follow: Annotated[bool, typer.Option("--follow", help="Go on and wait for more until interrupted.")] = False,
    poll: Annotated[float, typer.Option("--poll", help="With --follow: seconds between two looks.")] = 1.0,
    embedder: EmbedderName = None,
    as_json: AsJson = False,
) -> None:
    """Process all pending workflows, and those whose worker is gone, oldest first.

    Several of these may run at once: no two of them ever have the same workflow. Interrupted or killed, the next one
    goes on where it stopped. Exit code 1 when one was rolled back, failed, or ended with errors.

    \b
    vectorstore work kb
    vectorstore work kb --follow
    """
    ended: list[Workflow] = []
    with open_store(store, embedder) as opened:
        while True:
            found = opened.workflows.next()
            if found is not None:
                try:
                    ended.append(_processed(opened, found))
                except (LeaseHeld, IllegalMove):
                    continue  # another worker was faster
                if follow and not as_json:
                    typer.echo(_sentence(ended[-1]))
            elif follow:
                time.sleep(poll)
            else:
                break
    if as_json:
        say_json([workflow.to_dict() for workflow in ended])
    else:
        typer.echo(_table(ended) if ended else "nothing is pending")
    if any(workflow.status != "completed" or workflow.errors for workflow in ended):
        raise typer.Exit(FINDINGS)


def _processed(opened: Store, found: Workflow) -> Workflow:
    """The workflow, when it is over; one that failed says so, and the next one goes on."""
    with progress_bar(f"{found.operation} {found.kind}", found.total, "items") as told:
        try:
            return opened.workflows.process(found.id, progress=told)
        except (LeaseHeld, IllegalMove):
            raise
        except Exception:
            failed = opened.workflows.get(found.id)
            if failed.status != "failed":
                raise  # it is not the workflow's
            return failed


def list_(
    store: StorePath,
    status: Status = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Workflows on a page.")] = 20,
    after: Annotated[
        str | None, typer.Option("--after", help="What the page before called next.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List workflows, newest first.

    \b
    vectorstore workflows list kb --status failed
    """
    with open_store(store, read_only=True) as opened:
        page = opened.workflows.list(status, limit=limit, after=after)
    if as_json:
        say_json({"workflows": [each.to_dict() for each in page], "total": page.total, "next": page.next})
        return
    if page.records:
        typer.echo(_table(page.records))
    more = f" · next page: --after {page.next}" if page.next else ""
    typer.echo(typer.style(f"{len(page)} of {page.total}{more}", dim=True))


def _table(found: Any) -> str:
    header = ["id", "operation", "kind", "status", "items", "processed", "errors", "undone", "what is wrong"]
    rows = [[w.id, w.operation, w.kind, _status(w), w.total, w.processed, w.errors, w.undone, w.error] for w in found]
    return table(header, rows, right=[4, 5, 6, 7])


def _status(workflow: Workflow) -> str:
    return f"{workflow.status}, stopping" if workflow.stopping else workflow.status


def _sentence(workflow: Workflow) -> str:
    parts = [f"{workflow.id}: {workflow.operation} {workflow.kind}: {_status(workflow)}"]
    parts.append(f"{workflow.processed} of {workflow.total} items")
    parts += [f"{count} {what}" for what in ("errors", "undone", "kept") if (count := getattr(workflow, what))]
    return ", ".join(parts) + (f": {workflow.error}" if workflow.error else "")


def show(
    store: StorePath,
    id: WorkflowId,
    limit: Annotated[int, typer.Option("--limit", "-n", help="So many errors at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show a workflow: its counts, its errors, what happened to it.

    \b
    vectorstore workflows show kb spring-import
    """
    with open_store(store, read_only=True) as opened:
        found = opened.workflows.get(id)
        errors = opened.workflows.errors(id, limit=limit)
        lines = opened.workflows.log(id)
    if as_json:
        log = [{**vars(line), "at": line.at.isoformat()} for line in lines]
        told = [_plain(item) for item in errors]
        say_json({**found.to_dict(), "items_with_errors": told, "all_errors": errors.total, "log": log})
        return
    typer.echo(fields(found.to_dict()))
    if errors.records:
        typer.echo()
        typer.echo(table(["item", "id", "status", "reason"], [[e.index, e.id, e.status, e.reason] for e in errors]))
        if errors.total > len(errors):
            typer.echo(typer.style(f"{len(errors)} of {errors.total}", dim=True))
    typer.echo()
    typer.echo(_log_table(lines))


def _plain(item: Item) -> dict[str, Any]:
    return {"index": item.index, "id": item.id, "status": item.status, "reason": item.reason}


def _log_table(lines: Any) -> str:
    rows = [
        [
            line.at.isoformat(timespec="seconds"),
            line.workflow,
            line.actor,
            line.after,
            line.processed,
            line.errors,
            line.undone,
            "" if line.seconds is None else duration(line.seconds),
            line.note,
        ]
        for line in lines
    ]
    header = ["at", "workflow", "actor", "status", "processed", "errors", "undone", "after", "note"]
    return table(header, rows, right=[4, 5, 6, 7])


def log_(
    store: StorePath,
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this one.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="So many lines.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show what happened to workflows, newest first; those that were cleaned up too.

    \b
    vectorstore workflows log kb
    """
    with open_store(store, read_only=True) as opened:
        lines = opened.workflows.log(id, limit=limit)
    if as_json:
        say_json([{**vars(line), "at": line.at.isoformat()} for line in lines])
    else:
        typer.echo(_log_table(lines))


def import_(
    store: StorePath,
    kind: KindName,
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl[.gz]", help="A JSON object a line.", show_default=False)],
    id: OwnId = None,
    update: Annotated[bool, typer.Option("--update", help="The lines change records: an id and new values.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="The lines are tombstones, or ids, of records.")] = False,
    lenient: Lenient = False,
    as_json: AsJson = False,
) -> None:
    """Make a workflow that adds the records of a JSONL file, or replaces those whose id is there; `work` does it.

    A last line that was torn off is reported and left out; other bad lines are items that fail.

    \b
    vectorstore workflows import kb concepts concepts.jsonl.gz --id spring-import
    vectorstore work kb
    """
    if update and delete:
        raise typer.BadParameter("--update and --delete: say one of them")
    with open_store(store) as opened:
        made = opened.workflows.create_from_jsonl(
            kind,
            file,
            operation="update" if update else "delete" if delete else "create",
            id=id,
            policy="lenient" if lenient else "strict",
        )
    torn = made.options.get("torn")
    _tell(made, as_json, f"; line {torn} was torn off and left out" if torn else "")


def delete(
    store: StorePath,
    kind: KindName,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Of records.", show_default=False)] = None,
    where: WhereText = None,
    id: OwnId = None,
    lenient: Lenient = False,
    as_json: AsJson = False,
) -> None:
    """Make a workflow that deletes records by id or filter; `work` does it, `workflows rollback` undoes it.

    \b
    vectorstore workflows delete kb concepts --where domain=royalty
    """
    with open_store(store) as opened:
        shape = opened.collection(kind).kind
        chosen = as_where(where, shape)
        made = opened.workflows.delete(
            kind, ids or None, where=chosen, id=id, policy="lenient" if lenient else "strict"
        )
    _tell(made, as_json)


def _tell(workflow: Workflow, as_json: bool, more: str = "") -> None:
    if as_json:
        say_json(workflow.to_dict())
    else:
        typer.echo(_sentence(workflow) + more)


def process(store: StorePath, id: WorkflowId, embedder: EmbedderName = None, as_json: AsJson = False) -> None:
    """Process one workflow. Exit code 1 when it was rolled back, failed, or ended with errors; 4 when it cannot be.

    \b
    vectorstore workflows process kb spring-import
    """
    with open_store(store, embedder) as opened:
        ended = _processed(opened, opened.workflows.get(id))
    _tell(ended, as_json)
    if ended.status != "completed" or ended.errors:
        raise typer.Exit(FINDINGS)


def cancel(store: StorePath, id: WorkflowId, as_json: AsJson = False) -> None:
    """Cancel: a pending one at once; one that is processed stops within a chunk, and what it did is taken back.

    \b
    vectorstore workflows cancel kb spring-import
    """
    with open_store(store) as opened:
        found = opened.workflows.cancel(id)
    _tell(found, as_json)


def rollback(store: StorePath, id: WorkflowId, as_json: AsJson = False) -> None:
    """Take back what a completed or failed workflow did; what somebody has changed since stays, and is told.

    \b
    vectorstore workflows rollback kb spring-import
    """
    with open_store(store) as opened:
        found = opened.workflows.get(id)
        with progress_bar("rolling back", found.total, "items") as told:
            ended = opened.workflows.rollback(id, progress=told)
    _tell(ended, as_json, f"; {ended.kept} were changed since and stay: workflows show" if ended.kept else "")


def retry(store: StorePath, id: WorkflowId, as_json: AsJson = False) -> None:
    """Make what failed pending again; after a rollback everything. `work` does it.

    \b
    vectorstore workflows retry kb spring-import
    """
    with open_store(store) as opened:
        found = opened.workflows.retry(id)
    _tell(found, as_json)


def cleanup(
    store: StorePath,
    older_than: Annotated[str, typer.Option("--older-than", help="30d, 12h, or days: since the end.")] = "30d",
    status: Status = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove workflows that are over, with their items; they cannot be rolled back afterwards. The log stays.

    \b
    vectorstore workflows cleanup kb --older-than 7d --status completed
    """
    with open_store(store) as opened:
        number = opened.workflows.cleanup(as_age(older_than, "--older-than"), status, dry_run=dry_run)
    if as_json:
        say_json({"removed": number, "dry_run": dry_run})
    else:
        typer.echo(f"{number} workflow{'' if number == 1 else 's'} {'would be ' if dry_run else ''}removed")


def health(store: StorePath, as_json: AsJson = False) -> None:
    """Report workflows that are stuck or failed. Exit code 1 when there are some.

    \b
    vectorstore workflows health kb
    """
    with open_store(store, read_only=True) as opened:
        found = opened.workflows.health()
    waiting = None if found.waiting is None else found.waiting.total_seconds()
    if as_json:
        named = {name: [w.to_dict() for w in getattr(found, name)] for name in ("stuck", "failed")}
        say_json({"ok": found.ok, "counts": found.counts, **named, "waiting_seconds": waiting})
    else:
        typer.echo(fields({name: number for name, number in found.counts.items() if number} or {"workflows": "none"}))
        for what in ("stuck", "failed"):
            for workflow in getattr(found, what):
                typer.echo(typer.style(f"✗ {what}: ", fg="red") + _sentence(workflow))
        if waiting is not None:
            typer.echo(f"the oldest pending one has waited {duration(waiting)}: vectorstore work {store}")
    if not found.ok:
        raise typer.Exit(FINDINGS)
