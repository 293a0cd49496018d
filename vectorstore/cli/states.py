"""Commands about states: run a program with one, list them, look at their versions, go back, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vectorstore.cli.app import AsJson, StorePath, fail, open_store
from vectorstore.cli.output import say_json, size_of, table

PANEL = "States"
CORRUPT = 6
StateName = Annotated[str, typer.Argument(metavar="NAME", help="The state's name.", show_default=False)]
FilePath = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]

state = typer.Typer(no_args_is_help=True, help="Look at states, go back to a version, export and import.")


def register(app: typer.Typer) -> None:
    """Put this module's commands into the application."""
    app.command(
        rich_help_panel=PANEL, context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True}
    )(run)
    for command in (list_, show, restore, export, import_):
        state.command(command.__name__.rstrip("_"))(command)
    app.add_typer(state, name="state", rich_help_panel=PANEL)


def run(
    store: StorePath,
    command: Annotated[list[str], typer.Argument(metavar="[--] COMMAND...", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="The state's name.")] = "main",
    merge: Annotated[bool, typer.Option("--merge", help="Let others have the state, too; merge at the end.")] = False,
    fallback: Annotated[bool, typer.Option("--fallback", help="If the newest save is damaged, take an older.")] = False,
) -> None:
    """Run a command with a state that is loaded at its start and saved at its end, however it ends.

    The state is a JSON file, named by VECTORSTORE_STATE in the command's environment; absent when nothing is saved yet.
    Options come before STORE. The exit code is the command's, or 128 + n after signal n.

    \b
    vectorstore run kb -- python agent.py
    vectorstore run --name agent kb -- sh -c 'jq .steps $VECTORSTORE_STATE'
    """
    from vectorstore.states.running import run as run_with

    command = command[1:] if command[0] == "--" else command
    if not command:
        raise typer.BadParameter("say which command is to be run")
    with open_store(store, create=True) as opened:
        assert opened.path is not None  # a folder was given
        ran = run_with(opened.state(name), command, opened.path, merge=merge, fallback=fallback)
    if ran.aside is not None:
        where = f"it was set aside as {ran.aside}, and the old one stays"
        fail(f"the command left its state damaged: {ran.problem}; {where}", ran.code or CORRUPT)
    raise typer.Exit(ran.code)


def list_(store: StorePath, as_json: AsJson = False) -> None:
    """Name all states, with their newest versions."""
    with open_store(store, read_only=True) as opened:
        found = opened.states.list()
    if as_json:
        keys = ("name", "version", "saves", "size")
        say_json([{**{key: getattr(one, key) for key in keys}, "at": one.at.isoformat()} for one in found])
        return
    rows = [(one.name, one.version, one.saves, size_of(one.size), f"{one.at:%Y-%m-%d %H:%M:%S}") for one in found]
    header = ["state", "version", "saves", "size", "saved (UTC)"]
    typer.echo(table(header, rows, right=[1, 2, 3]) if rows else "no states")


def show(store: StorePath, name: StateName, as_json: AsJson = False) -> None:
    """Show what a state holds, and the versions that can be restored."""
    with open_store(store, read_only=True) as opened:
        found = opened.state(name)
        _load(found, name)
        shown: dict[str, Any] = {"values": found.statistics(), "problems": list(found.problems)}
        versions = found.checkpoints()
    if as_json:
        keys = ("version", "label", "kind", "size", "damaged")
        listed = [{**{key: getattr(one, key) for key in keys}, "at": one.at.isoformat()} for one in versions]
        say_json({**shown, "versions": listed})
        return
    values = [
        (key, entry["type"], entry.get("size", ""), entry.get("mean", "")) for key, entry in shown["values"].items()
    ]
    typer.echo(table(["value", "type", "size", "mean"], values, right=[2, 3]))
    typer.echo()
    rows = [
        (one.version, f"{one.at:%Y-%m-%d %H:%M:%S}", one.label or "", one.kind, size_of(one.size), one.damaged or "")
        for one in versions
    ]
    typer.echo(table(["version", "saved (UTC)", "label", "kind", "size", "damaged"], rows, right=[0, 4]))
    for problem in shown["problems"]:
        typer.echo(f"not understood: {problem}")


def restore(
    store: StorePath, name: StateName, version: Annotated[str, typer.Argument(help="Its number or label.")]
) -> None:
    """Make an older version the newest again; nothing is lost, it is saved as a new version."""
    with open_store(store) as opened:
        saved = opened.state(name).restore(int(version) if version.isdigit() else version)
    typer.echo(f"{name} is at version {saved.version} now, which is version {version} again")


def export(
    store: StorePath,
    name: StateName,
    file: FilePath,
    plain: Annotated[bool, typer.Option("--plain", help="Bare JSON, for other programs.")] = False,
) -> None:
    """Write the newest version to a file."""
    with open_store(store, read_only=True) as opened:
        found = opened.state(name)
        _load(found, name)
        found.export(file, plain=plain)
    typer.echo(f"{file}: {len(found)} values of {name}")


def import_(store: StorePath, name: StateName, file: FilePath) -> None:
    """Make what a file holds the newest version; files of other programs may be bare JSON."""
    with open_store(store, create=True) as opened:
        found = opened.state(name)
        found.load(fallback=True)
        found.read(file)
        saved = found.save()
    for problem in found.problems:
        typer.echo(f"not understood, kept as it is: {problem}", err=True)
    typer.echo(f"{name} is at version {saved.version} now: {len(found)} values")


def _load(found: Any, name: str) -> None:
    from vectorstore.errors import NotFound

    if not found.load():
        raise NotFound(f"no state {name!r}; vectorstore state list STORE names them")
