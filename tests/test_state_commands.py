"""`vectorstore run` and `vectorstore state`: programs of any language with a state, and a look at it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

import vectorstore as vs
from tests.kept import filled
from tests.test_cli import answer, refused, run

STEP = """
import json, os, sys
path = os.environ["VECTORSTORE_STATE"]
found = json.load(open(path)) if os.path.exists(path) else {"log": {"__type__": "deque", "items": [], "maxlen": 3}}
found["log"]["items"] = (found["log"]["items"] + [sys.argv[1]])[-3:]
json.dump(found, open(path, "w"))
sys.exit(int(sys.argv[2]))
"""


def shell(kb: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return run("run", *options, kb, "--", "sh", "-c", script)


def values(kb: Path, name: str = "main") -> dict[str, Any]:
    with vs.open(kb, embedder=None) as store:
        state = store.state(name)
        found = dict(state) if state.load() else {}
        assert store.check().findings == ()
    return found


def test_a_program_finds_what_the_last_one_left_whatever_its_end(tmp_path: Path) -> None:
    """H11: load at start, save on a normal exit and on an error; the program's own exit code."""
    kb = tmp_path / "kb"
    for number, code in enumerate((0, 7, 0, 0)):
        assert run("run", kb, sys.executable, "-c", STEP, number, code).returncode == code
    found = values(kb)
    assert found["log"] == deque(["1", "2", "3"]) and found["log"].maxlen == 3
    assert shell(kb, "true").returncode == 0
    (listed,) = answer("state", "list", kb)
    assert (listed["name"], listed["version"]) == ("main", 4), "nothing is saved when nothing changed"
    assert list((kb / "states").glob("*.json")) == []
    assert shell(kb, 'test -e "$VECTORSTORE_STATE"', "--name", "other").returncode == 1, "nothing is saved under it yet"
    assert shell(kb, 'test "$VECTORSTORE_STATE_NAME" = main && test -d "$VECTORSTORE_STORE"').returncode == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [(["sh", "-c", "kill -9 $$"], 137), (["no-such-program"], 127), (["/"], 126), (["sh", "-c", "exit 200"], 200)],
)
def test_exit_codes_are_a_shells(command: list[str], code: int, tmp_path: Path) -> None:
    assert run("run", tmp_path / "kb", "--", *command).returncode == code
    assert run("run", tmp_path / "kb", *command).returncode == code
    assert refused("run", tmp_path / "kb", "--")[0] == 2 and refused("run", tmp_path / "kb")[0] == 2


def test_what_a_program_left_half_written_is_set_aside(tmp_path: Path) -> None:
    """P1, P3: the state before stays, and the damaged file is kept."""
    kb = tmp_path / "kb"
    shell(kb, """echo '{"n": 1}' > "$VECTORSTORE_STATE" """)
    for script, code in (("", 6), ("; exit 9", 9)):
        found, told = refused("run", kb, "--", "sh", "-c", """printf '{"n": 2' > "$VECTORSTORE_STATE" """ + script)
        assert found == code and "not JSON" in told and "the old one stays" in told
        (aside,) = (kb / "states").glob("*.aside-*.json")
        assert aside.read_text() == '{"n": 2' and str(aside) in told.replace("\n", "")
        aside.unlink()
        assert values(kb) == {"n": 1}


def test_a_signal_goes_on_to_the_program_and_what_it_saved_is_kept(tmp_path: Path) -> None:
    kb, ready = tmp_path / "kb", tmp_path / "ready"
    script = (
        f"""trap 'echo "{{\\"stopped\\": true}}" > "$VECTORSTORE_STATE"; exit 0' TERM; touch {ready}; sleep 30 & wait"""
    )
    command = [sys.executable, "-m", "vectorstore.cli", "run", str(kb), "--", "sh", "-c", script]
    process = subprocess.Popen(command, start_new_session=True)
    while not ready.exists():
        assert process.poll() is None
        time.sleep(0.02)
    with pytest.raises(vs.StateBusy), vs.open(kb, embedder=None) as store, vs.lifecycle(store.state("main")):
        pytest.fail("two had it")
    assert refused("run", kb, "true")[0] == 5
    assert shell(kb, """echo '{"other": 1}' > "$VECTORSTORE_STATE" """, "--merge").returncode == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 4, "it was promised to be alone, and was not"
    (aside,) = (kb / "states").glob("*.aside-*.json")
    assert json.loads(aside.read_text()) == {"stopped": True} and values(kb) == {"other": 1}

    ready.unlink()
    process = subprocess.Popen(command, start_new_session=True)
    while not ready.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143 and values(kb) == {"stopped": True}


def test_the_file_of_a_killed_run_is_set_aside_by_the_next(tmp_path: Path) -> None:
    kb = tmp_path / "kb"
    shell(kb, """echo '{"n": 1}' > "$VECTORSTORE_STATE" """)
    with vs.open(kb, embedder=None) as store:
        left = kb / "states" / f"{store.state('main').key}.999999.json"
    left.write_text('{"n": 2')
    assert shell(kb, "true").returncode == 0
    (aside,) = (kb / "states").glob("*.aside-*.json")
    assert aside.read_text() == '{"n": 2' and not left.exists() and values(kb) == {"n": 1}


def test_two_that_merge_lose_nothing(tmp_path: Path) -> None:
    kb = tmp_path / "kb"
    shell(kb, """echo '{"a": 1}' > "$VECTORSTORE_STATE" """)
    inner = f"{sys.executable} -m vectorstore.cli run --merge {kb} -- sh -c"
    change = """sed -i 's/}/, "%s": 1}/' "$VECTORSTORE_STATE" """
    done = shell(
        kb,
        change % "outer" + f"; {inner} '" + change.replace("'", '"').replace('"%s"', '\\"%s\\"') % "inner" + "'",
        "--merge",
    )
    assert done.returncode == 0 and values(kb) == {"a": 1, "outer": 1, "inner": 1}


def test_states_are_listed_shown_restored_exported_and_imported(tmp_path: Path) -> None:
    kb = tmp_path / "kb"
    vs.open(kb, embedder=None).close()
    assert answer("state", "list", kb) == [] and "no states" in run("state", "list", kb).stdout
    assert refused("state", "show", kb, "agent")[0] == 3
    with vs.open(kb, embedder=None) as store:
        state = filled(store.state("agent"))
        state.save(label="first")
        state["score_history"].append(0.1)
        state.save()
        before = dict(state)
    shown = answer("state", "show", kb, "agent")
    assert shown["values"]["score_history"]["size"] == 4 and shown["problems"] == []
    assert [(one["version"], one["label"], one["kind"]) for one in shown["versions"]] == [
        (1, "first", "full"),
        (2, None, "delta"),
    ]
    text = run("state", "show", kb, "agent").stdout
    assert "knowledge_base" in text and "first" in text
    assert (
        run("state", "restore", kb, "agent", "first").returncode == 0 and len(values(kb, "agent")["score_history"]) == 3
    )
    assert run("state", "restore", kb, "agent", "2").returncode == 0 and values(kb, "agent") == before
    assert refused("state", "restore", kb, "agent", "9")[0] == 3
    for options in ([], ["--plain"]):
        file = tmp_path / f"out{len(options)}"
        assert run("state", "export", kb, "agent", file, *options).returncode == 0
        assert run("state", "import", kb, f"copy{len(options)}", file).returncode == 0
        assert values(kb, f"copy{len(options)}") == before
    file.write_text('{"odd": {"__type__": "GeneMap"}}')
    done = run("state", "import", kb, "odd", file)
    assert done.returncode == 0 and "unknown type 'GeneMap'" in done.stderr
    file.write_text("[1]")
    assert refused("state", "import", kb, "odd", file)[0] == 6
    (tmp_path / "key").write_bytes(b"")
    with vs.open(kb, embedder=None) as store:
        secret = store.state("secret", cipher=vs.AesGcm(vs.AesGcm.new_key()))
        secret["x"] = 1
        secret.save()
    assert refused("state", "show", kb, "secret")[0] == 5
