"""Commands about records: add, get, find, count, delete, undelete, purge."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Annotated, Any

import typer

from vectorstore.cli.app import AsJson, EmbedderName, KindName, StorePath, WhereText, open_store
from vectorstore.cli.arguments import as_fields, as_object, as_where
from vectorstore.cli.output import fields, note, plain, records_table, say_json
from vectorstore.errors import NotFound, ValidationError

PANEL = "Records"
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of records.", show_default=False)]
Metric = Annotated[
    str | None,
    typer.Option("--metric", help="cosine, ip or l2, for the kind's first vectors only.", show_default=False),
]
Upsert = Annotated[bool, typer.Option("--upsert", help="Replace records whose id is there already.")]


def register(app: typer.Typer) -> None:
    """Put this module's commands into the application."""
    app.command(rich_help_panel=PANEL)(add)
    for command in (get, find, count, delete, undelete, purge):
        app.command(rich_help_panel=PANEL)(command)


def add(
    store: StorePath,
    kind: KindName,
    field: Annotated[
        list[str] | None,
        typer.Option("--field", "-f", metavar="NAME=VALUE", help="A field; repeatable.", show_default=False),
    ] = None,
    upsert: Upsert = False,
    embedder: EmbedderName = None,
    metric: Metric = None,
    as_json: AsJson = False,
) -> None:
    """Add one record from --field, or one or many from JSON on stdin; prints the ids.

    Values of text fields are taken as they are, others as JSON. What is no field of the kind is kept in `extra`.

    \b
    vectorstore add kb concepts --field name=king --field domain=royalty --field "definition=a male monarch"
    echo '{"name": "queen", "tags": ["royal"]}' | vectorstore add kb concepts
    """
    given = None if field else _from_stdin()
    with open_store(store, embedder, **_metric(kind, metric)) as opened:
        collection = opened.collection(kind)
        records = given if given is not None else [as_fields(field or [], collection.kind)]
        _tell_unknown(records, collection.kind)
        ids = collection.upsert(records) if upsert else collection.add(records)
    if as_json:
        say_json({"ids": ids})
    else:
        typer.echo("\n".join(ids))


def _metric(kind: str, metric: str | None) -> dict[str, Any]:
    return {} if metric is None else {"metric": {kind: metric}}


def _from_stdin() -> list[Any]:
    """The records on stdin: a JSON object, a list of them, or an object a line."""
    if sys.stdin.isatty():
        raise ValidationError("add: give --field name=value, or JSON on stdin")
    text = sys.stdin.read()
    if not text.strip():
        raise ValidationError("add: stdin is empty; give --field name=value, or JSON on stdin")
    try:
        value = json.loads(text)
    except ValueError:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        return [as_object(line, f"stdin:{number}") for number, line in lines]
    return value if isinstance(value, list) else [value]


def _tell_unknown(records: list[Any], kind: type[Any]) -> None:
    known = set(kind.model_fields)
    unknown = sorted({key for record in records if isinstance(record, dict) for key in record} - known)
    if unknown:
        note(f"note: {', '.join(unknown)}: no field of {kind.table}; kept in extra")


def get(
    store: StorePath,
    kind: KindName,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of records.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show records by id; exit code 3 when one is missing.

    \b
    vectorstore get kb concepts default:king
    """
    with open_store(store, read_only=True) as opened:
        found = opened.collection(kind).get_many(ids, missing="none")
    there = [record for record in found if record is not None]
    if as_json:
        say_json([plain(record) for record in there])
    elif there:
        typer.echo("\n\n".join(fields(plain(record)) for record in there))
    missing = [name for name, record in zip(ids, found, strict=True) if record is None]
    if missing:
        raise NotFound(f"{kind}: no record with the id {', '.join(missing)}")


def find(
    store: StorePath,
    kind: KindName,
    where: WhereText = None,
    order: Annotated[
        str | None, typer.Option("--order", help="A field; -field for descending.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Records on a page.")] = 20,
    after: Annotated[
        str | None, typer.Option("--after", help="What the page before called next.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List records that match a filter, page by page.

    Operators: name__ne, __gt, __gte, __lt, __lte, __in, __nin, __contains, __startswith, __endswith, __glob, __isnull;
    of lists __has, __has_any, __has_all. JSON adds "and", "or", "not".

    \b
    vectorstore find kb concepts --where domain=noun.animal --order name --limit 5
    vectorstore find kb concepts --where '{"or": [{"domain": "physics"}, {"tags__has": "heat"}]}'
    """
    with open_store(store, read_only=True) as opened:
        collection = opened.collection(kind)
        page = collection.find(as_where(where, collection.kind), order=order, limit=limit, after=after)
    if as_json:
        say_json({"records": [plain(record) for record in page], "total": page.total, "next": page.next})
        return
    if page.records:
        typer.echo(records_table(page.records))
    more = f" · next page: --after {page.next}" if page.next else ""
    typer.echo(typer.style(f"{len(page)} of {page.total}{more}", dim=True))


def count(store: StorePath, kind: KindName, where: WhereText = None, as_json: AsJson = False) -> None:
    """Count the records that match.

    \b
    vectorstore count kb concepts --where domain=noun.animal
    """
    with open_store(store, read_only=True) as opened:
        collection = opened.collection(kind)
        number = collection.count(as_where(where, collection.kind))
    if as_json:
        say_json({"kind": kind, "count": number})
    else:
        typer.echo(number)


def delete(
    store: StorePath,
    kind: KindName,
    ids: Ids = None,
    where: WhereText = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete records by id or filter (with both: both must hold); `undelete` brings them back until `purge`.

    \b
    vectorstore delete kb concepts default:king
    vectorstore delete kb concepts --where domain=royalty --dry-run
    """
    with open_store(store) as opened:
        collection = opened.collection(kind)
        number = collection.delete(ids or None, where=as_where(where, collection.kind), dry_run=dry_run)
    _tell("would be deleted" if dry_run else "deleted", number, as_json, "deleted")


def undelete(
    store: StorePath, kind: KindName, ids: Ids = None, where: WhereText = None, as_json: AsJson = False
) -> None:
    """Bring deleted records back, with their vectors.

    \b
    vectorstore undelete kb concepts default:king
    """
    with open_store(store) as opened:
        collection = opened.collection(kind)
        number = collection.restore(ids or None, where=as_where(where, collection.kind))
    _tell("restored", number, as_json)


def purge(
    store: StorePath,
    kind: KindName,
    ids: Ids = None,
    where: WhereText = None,
    older_than: Annotated[
        float, typer.Option("--older-than", help="Days since the deletion; ids are purged whatever their age.")
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Erase deleted records for good: rows, text, vectors, index entries.

    \b
    vectorstore purge kb concepts default:king
    vectorstore purge kb concepts --older-than 0
    """
    with open_store(store) as opened:
        collection = opened.collection(kind)
        wanted = as_where(where, collection.kind)
        number = collection.purge(ids or None, where=wanted, older_than=timedelta(days=older_than))
        kept = 0 if number or ids else opened.stats()["kinds"][kind]["deleted"]
    _tell("purged", number, as_json)
    if not number.finished:
        note("copies are left while others read what was; they go as soon as that ends, or after the next opening")
    if kept:
        note(f"{kept} deleted, none of them for {older_than:g} days{' and matching' if where else ''}: --older-than")


def _tell(done: str, number: int, as_json: bool, key: str | None = None) -> None:
    if as_json:
        say_json({key or done: number})
    else:
        typer.echo(f"{number} record{'' if number == 1 else 's'} {done}")
