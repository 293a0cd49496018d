"""A Milvus server for the tests: the one that KB_MILVUS_URI names, else a process of our own, killed at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.scale.server import Server, available


@pytest.fixture(scope="module", autouse=True)
def filters_reach_the_engine() -> Iterator[None]:
    """A filter that allows few vectors is answered by a scan; here also few go to the engine, and it is measured so."""
    with mock.patch("vectorstore.vectors.allowed.EXACT_FILTER_NUMBERS", 4):
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process that tests may kill and start again."""
    if "KB_MILVUS_URI" in os.environ:
        pytest.skip("kills a server: KB_MILVUS_URI's is not ours to kill")
    if not available():
        pytest.fail("no Milvus server to test with: run `make test-scale`, or set KB_MILVUS_URI=milvus://host:19530")
    folder = Path(tmp_path_factory.mktemp("milvus"))
    made = Server(folder)
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="session")
def address(request: pytest.FixtureRequest) -> str:
    """Where a server is."""
    given = os.environ.get("KB_MILVUS_URI")
    if given:
        return given
    made: Server = request.getfixturevalue("server")
    return made.address
