"""What all commands share: the application, its options, opening a store, and error class -> exit code.

Errors go to stderr as their message alone; a traceback appears only for what nobody foresaw and only when asked for.
Nothing heavy is imported here: `vectorstore --help` loads neither the engines nor the model.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import vectorstore as vs
from vectorstore.cli.arguments import as_index
from vectorstore.cli.settings import settings
from vectorstore.errors import (
    BrokenPromise,
    ConflictError,
    ContractViolation,
    CorruptError,
    DerivedError,
    EmbedderError,
    NotFound,
    SchemaChangedError,
    SpaceMismatch,
    StoreError,
    VectorstoreError,
    WrongKey,
)

if TYPE_CHECKING:
    from vectorstore.store import Store

FINDINGS = 1
INTERRUPTED = 130
UNFORESEEN = 70
EXIT_CODES: tuple[tuple[type[VectorstoreError], int], ...] = (
    (BrokenPromise, 6),
    (ContractViolation, 2),
    (NotFound, 3),
    (ConflictError, 4),
    (SchemaChangedError, 5),
    (StoreError, 5),
    (WrongKey, 5),
    (CorruptError, 6),
    (EmbedderError, 7),
    (SpaceMismatch, 7),
    (DerivedError, 8),
)
"""Error class -> exit code; the first class that fits counts."""

EPILOG = (
    "[bold]Exit codes[/]: 0 well · 1 check has findings · 2 bad arguments or data, nothing was written · 3 no such "
    "record or kind · 4 in conflict with what is there · 5 the store cannot be used · 6 the store is damaged · "
    "7 the embedder is missing, or another one than the store's · 8 no index that is good enough · 70 unforeseen · "
    "130 interrupted. Results go to stdout, messages and progress to stderr; with --json stdout is JSON alone.\n\n"
    "[bold]Settings[/]: an option counts before the environment (VECTORSTORE_EMBEDDER, VECTORSTORE_INDEX, "
    "VECTORSTORE_JSON, VECTORSTORE_RECALL, VECTORSTORE_STORE), that before ~/.config/vectorstore/config.toml (or the "
    "file that VECTORSTORE_CONFIG names), that before the default. Keys of the file are options, for all commands or "
    'in the table of one: embedder = "hash", or k = 5 below \\[search]. All of it: vectorstore reference.'
)


class Door(TyperGroup):
    """The one place where errors become messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            if ctx.parent is None:
                ctx.default_map = settings(self)
            return super().invoke(ctx)
        except VectorstoreError as error:
            fail(str(error), exit_code(error))
        except KeyboardInterrupt:
            fail("interrupted; the store holds what was committed, and nothing half-done", INTERRUPTED)
        except Exception as error:
            # Typer's own way out: usage errors and Exit carry a code. A closed pipe (`| head`) is its business too.
            if hasattr(error, "exit_code") or isinstance(error, typer.Abort | BrokenPipeError):
                raise
            if os.environ.get("VECTORSTORE_TRACEBACK"):
                traceback.print_exc()
            fail(
                f"unforeseen {type(error).__name__}: {error}\n"
                "VECTORSTORE_TRACEBACK=1 in the environment shows where; please report it",
                UNFORESEEN,
            )


def exit_code(error: VectorstoreError) -> int:
    """The exit code of an error's class."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), UNFORESEEN)


def fail(message: str, code: int) -> NoReturn:
    """Say it on stderr and leave."""
    sys.stdout.flush()
    typer.echo(f"{typer.style('vectorstore:', fg='red', bold=True)} {message}", err=True)
    raise typer.Exit(code)


app = typer.Typer(
    name="vectorstore",
    cls=Door,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


@app.callback(invoke_without_command=True)
def _about(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    """A knowledge store in a folder: records with fields, found by meaning, by filter, or both.

    Start with [bold]vectorstore demo[/], or with a store of your own:

    \b
    vectorstore init kb
    vectorstore add kb concepts --field name=king --field "definition=a male monarch"
    vectorstore search kb concepts "a man who rules"
    """
    if version:
        typer.echo(f"vectorstore {vs.__version__}")
        raise typer.Exit


def kinds_of(ctx: typer.Context, incomplete: str) -> list[str]:
    """For the shell's completion: the kinds of the store that is named already."""
    try:
        with open_store(Path(ctx.params["store"]), read_only=True) as opened:
            return [name for name in opened.kinds if name.startswith(incomplete)]
    except (VectorstoreError, LookupError, TypeError):
        return []  # nothing to offer; the command itself says what is wrong


StorePath = Annotated[
    Path,
    typer.Argument(
        metavar="STORE", help="The store's folder; to read, also the URL of its backups.", show_default=False
    ),
]
KindName = Annotated[
    str,
    typer.Argument(
        metavar="KIND", help="concepts, analogies, clusters, ...", show_default=False, autocompletion=kinds_of
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", envvar="VECTORSTORE_JSON", show_envvar=False, help="JSON on stdout and nothing else there."),
]
EmbedderName = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        envvar="VECTORSTORE_EMBEDDER",
        show_envvar=False,
        metavar="NAME",
        help="minilm, hash, none (vectors are brought), or a recipe (.toml); left out: the store's own, "
        "minilm for a new one.",
        show_default=False,
    ),
]
IndexAddress = Annotated[
    str | None,
    typer.Option(
        "--index",
        envvar="VECTORSTORE_INDEX",
        show_envvar=False,
        metavar="ADDRESS",
        help="An engine outside that answers searches: milvus://host:19530, or concepts=milvus://...,memories=... for "
        "some kinds; none for none.",
        show_default=False,
    ),
]
WhereText = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        "-w",
        metavar="FILTER",
        help="domain=physics, quality__gte=0.7, tags__has=heat, or JSON; repeated: all must hold.",
        show_default=False,
    ),
]


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?=[^/])")


def place_of(path: Path) -> Path | str:
    """The store's folder, or the URL that was typed: in a path its two slashes have become one."""
    return _URL.sub(r"\1://", str(path), count=1) if _URL.match(str(path)) and not path.exists() else path


def open_store(
    path: Path,
    embedder: str | None = None,
    index: str | None = None,
    *,
    create: bool = False,
    read_only: bool = False,
    **options: Any,
) -> Store:
    """The store of a command.

    Args:
        path: its folder, or what a URL has become.
        embedder: as given on the command line; None for the store's own, "none" for no embedder.
        index: as given on the command line; None and "none" for no engine outside.
        create: make it if it is absent.
        read_only: the command only reads.
        options: more of `vs.open`.
    """
    if embedder is not None:
        options["embedder"] = None if embedder == "none" else embedder
    if index is not None:
        options["index"] = as_index(index)
    return vs.open(place_of(path), create=create, read_only=read_only, **options)
