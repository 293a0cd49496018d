"""Running the service: uvicorn, one or several processes over one store, and the token."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import secrets
import stat
import tempfile
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

import vectorstore as vs
from vectorstore.errors import ValidationError, VectorstoreError
from vectorstore.http.app import create_app
from vectorstore.http.observing import COUNTS
from vectorstore.http.service import Limits

log = logging.getLogger("vectorstore.http")
PLAN = "VECTORSTORE_SERVICE"
TOKEN = "VECTORSTORE_TOKEN"
MIN_TOKEN = 16
HEADERS = 10
"""Seconds that uvicorn keeps an idle connection."""


@dataclass(frozen=True)
class Plan:
    """How the service runs; handed to its processes through the environment, without the token.

    Attributes:
        store: the folder.
        host: the address to listen at.
        port: 0 for any that is free.
        workers: processes.
        read_only: refuse to write.
        embedder: a name, or None for the store's own; fixed here, never by a request.
        origins: of pages of other sites that may call.
        hosts: names under which the service may be called, beside those of this machine.
        work: process workflows here.
        limits: what one request may ask for.
        patience: seconds to wait at the end for requests that are being answered.
        concurrency: so many connections at once; more are answered 503.
        index: the engine outside that answers searches, as in `vs.open`.
    """

    store: str
    host: str = "127.0.0.1"
    port: int = 8765
    workers: int = 1
    read_only: bool = False
    embedder: str | None = None
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    work: bool = True
    limits: Limits = field(default_factory=Limits)
    patience: int = 30
    concurrency: int = 1_000
    index: str | dict[str, str | None] | None = None


def token_of(file: str | os.PathLike[str] | None, host: str, *, none: bool = False) -> str | None:
    """The token: of a file, else of VECTORSTORE_TOKEN, else a new one.

    Raises:
        ValidationError: too short, readable by others, or none at an address that others can reach.
    """
    if none:
        if not loopback(host):
            raise ValidationError(f"--no-token: expected an address of this machine only, got --host {host}")
        return None
    if file is not None:
        path = Path(file)
        try:
            mode = path.stat().st_mode
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValidationError(f"--token-file: {path} cannot be read: {error}") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValidationError(f"--token-file: others can read {path}; chmod 600 {path}")
    else:
        text = os.environ.get(TOKEN, "").strip() or secrets.token_urlsafe(24)
    if len(text) < MIN_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise ValidationError(f"token: expected at least {MIN_TOKEN} printable ASCII characters without spaces")
    return text


def loopback(host: str) -> bool:
    """Whether an address is one of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(plan: Plan, token: str | None) -> None:
    """Serve until SIGINT or SIGTERM; answers that have begun are finished, the worker ends its chunk, the store closes.

    Raises:
        ValidationError: several processes of a store in memory.
    """
    if plan.store == ":memory:":
        raise ValidationError("serve: expected a store on disk, got :memory:")
    os.environ[PLAN] = json.dumps(asdict(plan))
    if token is None:
        os.environ.pop(TOKEN, None)
    else:
        os.environ[TOKEN] = token
    with contextlib.ExitStack() as held:
        if plan.workers > 1 and COUNTS not in os.environ:
            os.environ[COUNTS] = held.enter_context(tempfile.TemporaryDirectory(prefix="vectorstore-metrics-"))
            held.callback(os.environ.pop, COUNTS)
        uvicorn.run(
            "vectorstore.http.serving:application",
            factory=True,
            host=plan.host,
            port=plan.port,
            workers=plan.workers,
            log_level="info",
            access_log=False,
            server_header=False,
            timeout_keep_alive=HEADERS,
            timeout_graceful_shutdown=plan.patience,
            limit_concurrency=plan.concurrency,
            h11_max_incomplete_event_size=64 << 10,
        )


def application() -> Any:
    """The application of one process, by the plan in the environment."""
    told = json.loads(os.environ[PLAN])
    plan = Plan(**{**told, "limits": Limits(**told["limits"])})
    options: dict[str, Any] = {} if plan.embedder is None else {"embedder": plan.embedder}
    store = vs.open(plan.store, create=False, read_only=plan.read_only, actor="http", index=plan.index, **options)
    threading.Thread(target=_warm, args=(store,), name="vectorstore-warm", daemon=True).start()
    hosts = ("127.0.0.1", "localhost", "[::1]", plan.host, *plan.hosts)
    any_host = not loopback(plan.host) and not plan.hosts
    return create_app(
        store,
        token=os.environ.get(TOKEN),
        limits=plan.limits,
        origins=plan.origins,
        hosts=("*",) if any_host else hosts,
        work=plan.work,
        close=True,
    )


def _warm(store: vs.Store) -> None:
    """Load the model while nobody waits for it; requests that come meanwhile wait for the same loading."""
    try:
        store.warm()
    except VectorstoreError as error:
        log.warning("the first search of a text will fail: %s", error)
