"""The commands shell and reference: a Python prompt with a store open, and all commands on one page."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from vectorstore.cli.app import EXIT_CODES, EmbedderName, IndexAddress, StorePath, open_store
from vectorstore.cli.settings import options_of

PANEL = "Help"
VARIABLES = (
    ("VECTORSTORE_CONFIG", "the file of settings, instead of `~/.config/vectorstore/config.toml`"),
    ("VECTORSTORE_EMBEDDER", "`--embedder`"),
    ("VECTORSTORE_INDEX", "`--index`"),
    ("VECTORSTORE_JSON", "`--json`: 1 or 0"),
    ("VECTORSTORE_RECALL", "`--recall`"),
    ("VECTORSTORE_STORE", "`--store` of `lattice`"),
    ("VECTORSTORE_ACTOR", "who acts, for the trail; else the system's user"),
    ("VECTORSTORE_TOKEN", "the token of `serve`"),
    ("VECTORSTORE_CONTRACTS", "off: do not check what verbs demand and promise"),
    ("VECTORSTORE_TELEMETRY", "on, off, or auto: spans and durations to OpenTelemetry"),
    ("VECTORSTORE_TRACEBACK", "1: show where an unforeseen error came from"),
)


def register(app: typer.Typer) -> None:
    """Put this module's commands into the application."""
    app.command(rich_help_panel=PANEL)(shell)
    app.command(rich_help_panel=PANEL)(reference)


def shell(
    store: StorePath,
    read_only: Annotated[bool, typer.Option("--read-only", help="Write nothing.")] = False,
    embedder: EmbedderName = None,
    index: IndexAddress = None,
) -> None:
    """Open a Python prompt with the store as `store` and the library as `vs`; IPython's when it is installed.

    What comes on stdin is run, when it is no terminal.

    \b
    vectorstore shell kb
    echo 'print(len(store.concepts))' | vectorstore shell kb --read-only
    """
    import vectorstore as vs

    with open_store(store, embedder, index, read_only=read_only) as opened:
        names = {"store": opened, "vs": vs}
        if not sys.stdin.isatty():
            exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__", **names})
            return
        told = f"vectorstore {vs.__version__}: store is {opened!r}, vs the library"
        try:
            from IPython import start_ipython
        except ImportError:
            import code

            code.interact(told, local=names, exitmsg="")
        else:
            print(told)
            start_ipython(argv=["--no-banner"], user_ns=names)


def reference(ctx: typer.Context) -> None:
    """Write all commands with their options on one page of Markdown; docs/cli.md is made by it.

    \b
    vectorstore reference > docs/cli.md
    """
    typer.echo(page(ctx.find_root().command), nl=False)


def page(root: Any) -> str:
    """The page."""
    commands = list(_commands(root, ""))
    panels: dict[str, list[str]] = {}
    for name, command, panel in commands:
        if not command.hidden:
            panels.setdefault(panel, []).append(f"[`{name}`](#vectorstore-{name.replace(' ', '-')})")
    lines = ["# The command line", "", "<!-- made by `vectorstore reference`; a test holds it to the code -->", ""]
    lines += [f"- {panel}: {' '.join(names)}" for panel, names in panels.items()]
    lines += ["", "Every command takes `--help` (`-h`), most `--json`.", *_settings(), *_codes()]
    for name, command, _ in commands:
        lines += _section(name, command)
    return "\n".join(lines).rstrip() + "\n"


def _commands(group: Any, before: str, panel: str = "") -> Iterator[tuple[str, Any, str]]:
    """(name, command, panel), of groups those below them; in the order of the panels."""
    for name, command in sorted(group.commands.items(), key=lambda each: each[1].hidden):
        shown = panel or str(command.rich_help_panel)
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ", shown)
        else:
            yield f"{before}{name}", command, shown


def _settings() -> list[str]:
    rows = [f"| `{name}` | {meaning} |" for name, meaning in VARIABLES]
    return [
        *("", "## Settings", ""),
        "An option counts before a variable of the environment, that before the file of settings, that before the",
        "default. The file is `~/.config/vectorstore/config.toml`; its keys are names of options, for all commands",
        "that have them or in the table of one:",
        *("", "```toml", 'embedder = "minilm"', "", "[search]", "k = 5", 'where = ["context=default"]', ""),
        *("[workflows.list]", "limit = 50", "```", "", "| variable | meaning |", "|---|---|", *rows),
        *("", "`vectorstore --install-completion` teaches the shell the commands, the options and a store's kinds."),
    ]


def _codes() -> list[str]:
    named: dict[int, list[str]] = {}
    for error, code in EXIT_CODES:
        named.setdefault(code, []).append(f"`{error.__name__}`")
    fixed = {0: "well", 1: "there are findings", 70: "unforeseen", 130: "interrupted; what was committed is there"}
    meanings = {**fixed, **{code: ", ".join(names) for code, names in named.items()}}
    rows = [f"| {code} | {meanings[code]} |" for code in sorted(meanings)]
    return ["", "## Exit codes", "", "| code | meaning |", "|---|---|", *rows]


def _section(name: str, command: Any) -> list[str]:
    arguments = [param for param in command.params if param.param_type_name == "argument" and not param.hidden]
    told = " ".join(_argument(param) for param in arguments)
    options = list(options_of(command))
    synopsis = " ".join(part for part in (f"vectorstore {name}", "[OPTIONS]" if options else "", told) if part)
    lines = ["", f"## vectorstore {name}", "", "```", synopsis, "```", "", *_prose(command.help or "")]
    if arguments:
        lines += ["", "| argument | |", "|---|---|"]
        lines += [f"| `{_argument(param)}` | {_cell(param.help)}{_default(param)} |" for param in arguments]
    if options:
        lines += ["", "| option | |", "|---|---|"]
        lines += [f"| {_spelling(option)} | {_cell(option.help)}{_default(option)} |" for _, option in options]
    return lines


def _prose(text: str) -> list[str]:
    """A help text as Markdown: what stands after a \\b as code."""
    lines: list[str] = []
    for block in re.sub(r"\[(bold|/|/bold)\]", "", text).split("\n\n"):
        if block.startswith("\b"):
            lines += ["```", *(line.strip() for line in block[1:].strip("\n").splitlines()), "```", ""]
        else:
            lines += [*block.strip().splitlines(), ""]
    return lines[:-1]


def _argument(param: Any) -> str:
    shown = param.metavar or param.name.upper()
    return shown if param.required or shown.startswith("[") else f"[{shown}]"


def _spelling(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or 'VALUE'}"
    return ", ".join(f"`{each}{value}`" for each in option.opts)


def _default(param: Any) -> str:
    told = []
    if param.default not in (None, False, "", ()) and not callable(param.default):
        told.append(f"default `{param.default}`")
    variable = getattr(param, "envvar", None)
    if variable:
        told.append(f"variable `{variable}`")
    if getattr(param, "multiple", False) and "repeat" not in (param.help or ""):
        told.append("repeatable")
    return f" ({', '.join(told)})" if told else ""


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
