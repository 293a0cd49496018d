"""The engine in a folder does what every engine must; tests/scale asks the same of a server and of a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine_suite import EngineSuite


class TestFolder(EngineSuite):
    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return f"faiss:{tmp_path / 'engine'}"
