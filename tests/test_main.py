import subprocess
import sys
from pathlib import Path

import pytest

from datagen.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "datagen", *argv], capture_output=True, text=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches(command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["datagen", command, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert f"usage: datagen {command}" in capsys.readouterr().out


def test_without_a_command_they_are_listed():
    ended = run()
    assert ended.returncode == 0
    assert all(f"  {command} " in ended.stdout for command in COMMANDS)


def test_an_unknown_command_is_told_with_the_known_ones():
    ended = run("valdate")
    assert ended.returncode == 2
    assert "no command 'valdate'" in ended.stderr and "validate" in ended.stderr


LOUD = """
import sys, types
import datagen.__main__ as command_line
sys.modules["loud"] = types.SimpleNamespace(main=lambda argv: print("x\\n" * 1_000_000) or 0)
command_line.COMMANDS["loud"] = ("loud", "prints more than a pipe holds")
sys.argv = ["datagen", "loud"]
sys.exit(command_line.main())
"""


def test_a_reader_that_leaves_is_no_error(tmp_path):
    (tmp_path / "loud.py").write_text(LOUD)
    command = (
        f"PYTHONPATH={ROOT} {sys.executable} {tmp_path / 'loud.py'} | head -c 1; exit ${{PIPESTATUS[0]}}"
    )
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "x", "")
