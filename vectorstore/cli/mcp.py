"""The command mcp."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from vectorstore.cli.app import EmbedderName, IndexAddress, StorePath, open_store
from vectorstore.cli.output import note
from vectorstore.errors import LibraryMissing

if TYPE_CHECKING:
    from vectorstore.store import Store


def register(app: typer.Typer) -> None:
    """Put this module's command into the application."""
    app.command(rich_help_panel="Doors")(mcp)


def mcp(
    store: StorePath,
    read_only: Annotated[bool, typer.Option("--read-only", help="Offer no tool that writes.")] = False,
    embedder: EmbedderName = None,
    index: IndexAddress = None,
) -> None:
    """Serve the store to assistants, as an MCP server on stdin and stdout. Needs the extra mcp.

    An assistant starts it; its settings name the command:

    \b
    {"mcpServers": {"knowledge": {"command": "vectorstore", "args": ["mcp", "/path/to/kb", "--read-only"]}}}

    \b
    vectorstore mcp kb --read-only
    """
    try:
        from vectorstore.integrations.mcp import serve
    except ImportError as error:
        raise LibraryMissing(f"mcp {error}") from None

    actor = os.environ.get("VECTORSTORE_ACTOR") or "mcp"  # so that the trail tells what an assistant did
    with open_store(store, embedder, index, read_only=read_only, actor=actor) as opened:
        _leave_at_once(opened)
        serve(opened)


def _leave_at_once(opened: Store) -> None:
    """Let a signal close the store and end the process.

    A thread of the SDK reads stdin, which nothing interrupts; Python's own way out would wait for its next line.
    """

    def leave(number: int, _: FrameType | None) -> None:
        opened.close()
        note("vectorstore: interrupted; the store is closed")
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
