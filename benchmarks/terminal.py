"""The picture of a terminal in the README: commands are run in a scratch folder, and what they show is drawn as SVG.

python benchmarks/terminal.py            # writes docs/terminal.svg
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "terminal.svg"
WIDTH = 116
COMMANDS = (
    "vectorstore init kb",
    'vectorstore add kb concepts --field name=king --field domain=royalty --field definition="a male monarch"',
    'vectorstore add kb concepts --field name=queen --field domain=royalty --field definition="a female monarch"',
    'vectorstore add kb concepts --field name=pawn --field domain=chess --field definition="the smallest piece"',
    'vectorstore search kb concepts "a woman who rules" -k 2 --where domain=royalty',
    "vectorstore check kb",
)
FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def shown(commands: tuple[str, ...]) -> str:
    """The SVG of a terminal in which the commands were given one after another.

    Raises:
        RuntimeError: one of them failed.
    """
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ, "COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "PYTHONPATH": str(ROOT), "TERM": "xterm-256color",
            "VECTORSTORE_CONFIG": os.devnull,
        }  # fmt: skip
        for command in commands:
            console.print(Text.assemble(("$ ", "bold green"), command))
            words = [sys.executable, "-m", "vectorstore.cli", *shlex.split(command)[1:]]
            done = subprocess.run(
                words,
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"{command}\n{done.stdout}{done.stderr}")
            console.print(Text.from_ansi(done.stdout.replace(folder + "/", "").rstrip()))
    # A page asks no other server for a font: the reader's own fixed-width one is drawn with.
    return FACE.sub("", console.export_svg(title="vectorstore", unique_id="terminal")).replace("Fira Code", "monospace")


if __name__ == "__main__":
    PICTURE.write_text(shown(COMMANDS), encoding="utf-8")
