"""The command search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vectorstore.cli.app import AsJson, EmbedderName, IndexAddress, KindName, StorePath, WhereText, open_store
from vectorstore.cli.output import columns_of, duration, say_json, table

if TYPE_CHECKING:
    from vectorstore.results import Hits


def register(app: typer.Typer) -> None:
    """Put this module's command into the application."""
    app.command(rich_help_panel="Records")(search)


def search(
    store: StorePath,
    kind: KindName,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="A text, or a vector as a JSON list.", show_default=False)
    ],
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 10,
    where: WhereText = None,
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            envvar="VECTORSTORE_RECALL",
            show_envvar=False,
            help="Share of the true best to deliver, 0..1; 0.99 if left out.",
            show_default=False,
        ),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector.")] = False,
    mode: Annotated[str, typer.Option("--mode", help="vector, text or hybrid.")] = "vector",
    like: Annotated[bool, typer.Option("--like", help="QUERY is an id: find what is near to that record.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say how the answer was found, and why so.")] = False,
    embedder: EmbedderName = None,
    index: IndexAddress = None,
    as_json: AsJson = False,
) -> None:
    """Find the records nearest to a text, best first. A filter never makes the answer short.

    \b
    vectorstore search kb concepts "a woman who rules" -k 5
    vectorstore search kb concepts "loyal companion" --where domain=noun.animal
    vectorstore search kb concepts king --like --recall 0.999 --explain
    vectorstore search kb concepts "ruling monarch" --mode hybrid --json
    """
    import vectorstore as vs
    from vectorstore.cli.arguments import as_query, as_where

    with open_store(store, embedder, index, read_only=True) as opened:
        collection = opened.collection(kind)
        wanted = as_where(where, collection.kind)
        sought: Any = vs.Id(query) if like else as_query(query)
        hits = collection.search(sought, k, wanted, recall, exact, mode)  # type: ignore[arg-type]
    if as_json:
        say_json(hits.to_dict())
    else:
        typer.echo(shown(hits, explain=explain))


def shown(hits: Hits[Any], *, explain: bool = False) -> str:
    """Hits as a table, with the promise and the time below."""
    records = [hit.record for hit in hits]
    names = columns_of(records)
    rows = [
        (hit.rank + 1, f"{hit.score:.4f}", hit.id, *(getattr(hit.record, name, None) for name in names)) for hit in hits
    ]
    lines = [table(["", "score", "id", *names], rows, right=[0, 1])] if rows else []
    promise = "exact" if hits.exact else f"recall ≥ {hits.recall_promised:.4f}"
    way = f"{promise} · {hits.plan.name}" if hits.plan.name != promise else promise
    count = f"{len(hits)} hit{'' if len(hits) == 1 else 's'}"
    lines.append(typer.style(f"{count} · {way} · {duration(hits.elapsed)}", dim=True))
    if explain:
        matching = "" if hits.plan.matching is None else f" · {hits.plan.matching} match the filter"
        lines.append(f"plan: {hits.plan.reason}{matching}")
        lines.append(
            f"{hits.plan.candidates} proposed by the index, {hits.plan.scanned} scored exactly, metric {hits.metric}, "
            f"state {hits.generation} of the catalog"
        )
    return "\n".join(lines)
