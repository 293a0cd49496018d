"""Inputs that are found by watching which lines they reach: atheris on every parser, a while each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PARSERS = ["where", "language", "line", "csv", "words", "binary words", "segment", "manifest", "state", "pickle"]
SECONDS = 15


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("parser", PARSERS)
def test_no_input_that_reaches_new_code_raises_anything_but_an_error_of_ours(parser: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or platform; pip install atheris")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", parser, f"-max_total_time={SECONDS}", f"-artifact_prefix={tmp_path}/"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, errors="replace", timeout=SECONDS * 8 + 60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    runs = re.search(r"Done (\d+) runs", done.stderr)
    assert runs is not None and int(runs[1]) > 1000, done.stderr[-500:]
    print(f"{parser}: {runs[1]} inputs")
