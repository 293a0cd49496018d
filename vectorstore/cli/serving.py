"""The command serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vectorstore.cli.app import EmbedderName, IndexAddress, StorePath
from vectorstore.cli.output import note
from vectorstore.errors import LibraryMissing, installing


def register(app: typer.Typer) -> None:
    """Put this module's command into the application."""
    app.command(rich_help_panel="Doors")(serve)


def serve(
    store: StorePath,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="The port.", min=1, max=65535)] = 8765,
    workers: Annotated[int, typer.Option("--workers", help="Processes over the one store.", min=1, max=64)] = 1,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="A file with the token; left out: VECTORSTORE_TOKEN, else a new one.",
            show_default=False,
        ),
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="Let everybody of this machine in.")] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse to write.")] = False,
    origin: Annotated[
        list[str] | None,
        typer.Option("--origin", help="A page of another site that may call; repeatable.", show_default=False),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", help="A further name of this service; repeatable.", show_default=False),
    ] = None,
    body_limit: Annotated[int, typer.Option("--body-limit", help="MB that a request may have.", min=1)] = 8,
    embedder: EmbedderName = None,
    index: IndexAddress = None,
) -> None:
    """Serve a store over HTTP, with the explorer page at /.

    Only this machine can reach it, and only with the token that is shown. Workflows are processed in the background.

    \b
    vectorstore serve kb
    vectorstore serve kb --port 9000 --workers 2 --token-file token.txt
    vectorstore serve kb --index milvus://milvus.example:19530
    """
    try:
        from vectorstore.http.service import Limits
        from vectorstore.http.serving import Plan, serve, token_of
    except ImportError as error:
        raise LibraryMissing(f"serve needs FastAPI and uvicorn ({error}); {installing('http')}") from None
    from vectorstore.cli.app import open_store, place_of
    from vectorstore.cli.arguments import as_index

    token = token_of(token_file, host, none=no_token)
    place = place_of(store)
    # What is wrong with it is said here, once.
    open_store(store, embedder, index, read_only=read_only, auto_publish=False).close()
    plan = Plan(
        place if isinstance(place, str) else str(place.absolute()),
        host,
        port,
        workers,
        read_only,
        embedder,
        tuple(origin or ()),
        tuple(allowed_host or ()),
        limits=Limits(body=body_limit << 20),
        index=None if index is None else as_index(index),
    )
    # The fragment of an address is never sent to a server, nor logged by one.
    shown = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    note(f"page: {shown}" + ("" if token is None else f"#token={token}"))
    if token is not None:
        note(f"token: {token}")
    serve(plan, token)
