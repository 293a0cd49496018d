"""Commands about the lattice: list, show, prune, decay, clear."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vectorstore.cli.app import AsJson, open_store
from vectorstore.cli.output import fields, plain, say_json, table
from vectorstore.errors import ValidationError

if TYPE_CHECKING:
    from vectorstore.records import EchoForm
    from vectorstore.store import Store

PANEL = "Knowledge"
_SHOWN = 20
StoreOption = Annotated[
    Path,
    typer.Option("--store", "-s", envvar="VECTORSTORE_STORE", metavar="STORE", help="The store's folder."),
]
DomainOption = Annotated[
    str | None, typer.Option("--domain", help="Only forms of this domain.", metavar="DOMAIN", show_default=False)
]
ContextOption = Annotated[str, typer.Option("--context", help="The context that the form is in.")]
HERE = Path("kb")

lattice = typer.Typer(
    no_args_is_help=True,
    help="Forms that gather where two names meet, and fade: list, show, prune, clear.",
)


def register(app: typer.Typer) -> None:
    """Put this module's commands into the application."""
    app.add_typer(lattice, name="lattice", rich_help_panel=PANEL)


@lattice.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", help="Forms to list.")] = 10,
    domain: DomainOption = None,
    store: StoreOption = HERE,
    as_json: AsJson = False,
) -> None:
    """List forms, the last updated first, with what is left of their intensity.

    \b
    vectorstore lattice list
    vectorstore lattice list --limit 5 --domain echo --store kb
    """
    with open_store(store, read_only=True) as opened:
        page = opened.lattice.recent(limit, domain=domain)
        rows = [
            _row(opened, form, left) for form, left in zip(page, opened.lattice.intensities(page.records), strict=True)
        ]
    if as_json:
        say_json({"forms": rows, "total": page.total})
        return
    if rows:
        header = ["anchor", "domain", "phase", "intensity", "age h"]
        cells = [(r["anchor"], r["domain"], r["phase"], f"{r['intensity']:.4f}", f"{r['age_hours']:.1f}") for r in rows]
        typer.echo(table(header, cells, right=[3, 4]))
    typer.echo(typer.style(f"{len(rows)} of {page.total}", dim=True))


def _row(opened: Store, form: EchoForm, left: float) -> dict[str, Any]:
    now = opened._catalog.clock()
    age = 0.0 if form.created_at is None else (now - form.created_at).total_seconds() / 3600
    return {**plain(form), "intensity": left, "age_hours": age}


@lattice.command()
def show(
    anchor: Annotated[str, typer.Argument(metavar="ANCHOR", help="What the form is called.", show_default=False)],
    context: ContextOption = "default",
    store: StoreOption = HERE,
    as_json: AsJson = False,
) -> None:
    """Show a form with its terms; exit code 3 when there is none.

    \b
    vectorstore lattice show Scar_007
    vectorstore lattice show Scar_007 --json --store kb
    """
    with open_store(store, read_only=True) as opened:
        form = opened.lattice.form(anchor, context)
        terms = opened.lattice.terms(anchor, context)
        shown = _row(opened, form, opened.lattice.intensities([form])[0])
        faults = opened.lattice.verify(anchor, context)
    if as_json:
        say_json({**shown, "terms": [plain(term) for term in terms], "faults": list(faults)})
        return
    typer.echo(fields(shown))
    if len(terms) > _SHOWN:
        typer.echo(typer.style(f"the last {_SHOWN} of {len(terms)} terms; all of them with --json", dim=True))
    rows = [(term.number, term.intensity, term.at.isoformat(), term.role, term.symbol) for term in terms[-_SHOWN:]]
    if rows:
        typer.echo(table(["term", "intensity", "at", "role", "symbol"], rows, right=[0, 1]))
    for fault in faults:
        typer.echo(typer.style("✗ ", fg="red") + fault)


@lattice.command()
def prune(
    older_than: Annotated[str, typer.Option("--older-than", help="30d, 12h, 45m, 3600s, or a number of days.")] = "30d",
    created: Annotated[
        bool, typer.Option("--created", help="Since their creation, instead of their last term.")
    ] = False,
    domain: DomainOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    store: StoreOption = HERE,
    as_json: AsJson = False,
) -> None:
    """Delete forms that nothing has touched for so long; `restore` brings them back until `purge`.

    \b
    vectorstore lattice prune --older-than 30d
    vectorstore lattice prune --older-than 12h --dry-run
    """
    with open_store(store) as opened:
        where = None if domain is None else {"domain": domain}
        by: Any = "created_at" if created else "updated_at"
        number = opened.lattice.prune(older_than, by=by, where=where, dry_run=dry_run)
    if as_json:
        say_json({"pruned": number, "dry_run": dry_run})
    else:
        typer.echo(f"{_forms(number)} {'would be ' if dry_run else ''}pruned")


@lattice.command()
def decay(
    tau: Annotated[float, typer.Option("--tau", help="Days until 1/e = 37 % is left.")] = 14.0,
    entropy_scaling: Annotated[
        float, typer.Option("--entropy-scaling", help="k: tau x (1 + k x entropy of the form's identities in bits).")
    ] = 0.0,
    store: StoreOption = HERE,
    as_json: AsJson = False,
) -> None:
    """Let forms fade by this tau, and write their decayed sums down; raw intensities stay, so twice is once.

    \b
    vectorstore lattice decay --tau 14.0
    """
    with open_store(store) as opened:
        number = opened.lattice.decay(tau, entropy_scaling=entropy_scaling)
    if as_json:
        say_json({"decayed": number, "tau_days": tau})
    else:
        typer.echo(f"{_forms(number)} fade by a tau of {tau:g} days")


@lattice.command()
def clear(
    confirm: Annotated[bool, typer.Option("--confirm", help="Do it; without, nothing is cleared.")] = False,
    domain: DomainOption = None,
    store: StoreOption = HERE,
    as_json: AsJson = False,
) -> None:
    """Delete all forms, or those of a domain, and say how many of which domain; exit code 2 without --confirm.

    \b
    vectorstore lattice clear
    vectorstore lattice clear --confirm
    """
    with open_store(store, read_only=not confirm) as opened:
        counts = opened.lattice.clear(domain, dry_run=not confirm)
    total = sum(counts.values())
    listed = ", ".join(f"{number} of {name}" for name, number in counts.items()) or "there are none"
    if not confirm:
        raise ValidationError(f"{_forms(total)} would be cleared ({listed}); nothing was: add --confirm")
    if as_json:
        say_json({"cleared": total, "domains": counts})
    else:
        typer.echo(f"{_forms(total)} cleared ({listed})")


def _forms(number: int) -> str:
    return f"{number} form{'' if number == 1 else 's'}"
