# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's own files against each other, the log's form, and the installer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from registrator import metrics, state
from registrator.cli import status_of
from registrator.config import Config
from registrator.journal import line

ROLE = Path(__file__).resolve().parents[4] / "roles" / "registrator"
VARS = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))


def test_every_module_is_installed() -> None:
    assert sorted(VARS["__registrator_modules"]) == sorted(path.stem for path in (ROLE / "files" / "registrator").glob("*.py"))


def test_every_setting_of_the_engine_is_written_by_the_role() -> None:
    assert set(VARS["__registrator_config"]) == set(Config.__dataclass_fields__) - {"state_directory"}


def test_log_lines_cannot_be_forged() -> None:
    text = line("warning", "refused", name='a"b\nevent=registered', key="x")
    assert text == '<4>event=refused name="a\\"b\\x0aevent=registered" key=x'


def test_metrics_text() -> None:
    numbers = metrics.Metrics()
    numbers.add("events_total", 3)
    assert "\nregistrator_events_total 3\n" in numbers.text()
    assert "# TYPE registrator_events_total counter" in numbers.text()


def test_status() -> None:
    good = {"pid": os.getpid(), "synced": True, "down": {}, "last_sync": 1000.0}
    assert status_of(good, 30, 1010.0) == ""
    assert "seconds ago" in status_of(good, 30, 2000.0)
    assert "Docker does not answer: why" in status_of({**good, "down": {"docker": "why"}}, 30, 1010.0)
    assert "not finished" in status_of({**good, "synced": False}, 30, 1010.0)
    assert "does not run" in status_of({}, 30, 1010.0)
    assert "does not run" in status_of({**good, "pid": 2**22 + 1}, 30, 1010.0)


def test_state_survives_and_rubbish_does_not(tmp_path: Path) -> None:
    state.write(str(tmp_path), "x.json", {"a": 1})
    assert state.read(str(tmp_path), "x.json") == {"a": 1}
    (tmp_path / "x.json").write_text("[1", encoding="utf-8")
    assert state.read(str(tmp_path), "x.json") == {}
    assert state.read(str(tmp_path), "absent.json") == {}


def test_process_token() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        token = state.process_token(process.pid)
        assert token.isdecimal()
        assert token == state.process_token(process.pid)
        process.communicate(b"\n")
    assert state.process_token(process.pid) != token
    assert state.process_token(0) == ""


def test_installer(tmp_path: Path) -> None:
    library = tmp_path / "lib"
    program = tmp_path / "bin" / "x"
    wanted = {
        "directories": [str(tmp_path / "etc")],
        "purge": [str(library)],
        "files": {str(library / "p" / "a.py"): {"content": "a\n", "mode": "0644"}, str(program): {"content": "x", "mode": "0755"}},
    }

    def run(data: object, *arguments: str) -> list[str]:
        command = [sys.executable, str(ROLE / "files" / "install_tree.py"), *arguments]
        return subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, check=True).stdout.splitlines()

    assert len(run(wanted, "--check")) == 3
    assert not library.exists()
    assert len(run(wanted)) == 3
    assert program.stat().st_mode & 0o777 == 0o755
    (library / "p" / "__pycache__").mkdir()
    (library / "p" / "old.py").touch()
    assert len(run(wanted)) == 2
    program.chmod(0o700)
    assert run(wanted, "--check") == [f"changed {program}"]
    run(wanted)
    assert run(wanted) == run(wanted, "--check") == []
    assert run({"remove": [str(library), str(program), "/nonexistent/x"]}) == [f"removed {program}", f"removed {library}"]
    assert not library.exists()
