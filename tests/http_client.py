"""A client of the service over a scratch store, for the tests of its routes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient

import vectorstore as vs
from vectorstore.http import Limits, create_app

TOKEN = "a-token-for-tests-only"
PROBLEM = "application/problem+json"


@contextmanager
def serving(store: vs.Store, *, limits: Limits | None = None, **options: Any) -> Iterator[TestClient]:
    """A client with the token, of an application that works in the background as the real one does."""
    app = create_app(store, token=TOKEN, limits=limits, **options)
    with TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}, raise_server_exceptions=False) as client:
        yield client


def problem(response: Any, status: int, kind: str) -> dict[str, Any]:
    """The problem details of a response, which is that problem."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    body: dict[str, Any] = response.json()
    assert body["status"] == status and body["type"] == f"urn:vectorstore:{kind}" and body["title"], f"{kind}: {body}"
    return body
