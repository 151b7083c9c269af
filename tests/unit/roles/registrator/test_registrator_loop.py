# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the registration ends: asked to, or because one of its threads has ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from registrator.config import parse
from registrator.loop import Loop


@pytest.fixture(name="loop")
def fixture_loop(tmp_path: Path) -> Loop:
    settings = {
        "address": "192.0.2.10",
        "hostname": "node1",
        "consul_url": "http://127.0.0.1:9",
        "docker_socket": str(tmp_path / "docker.sock"),
        "docker_pid_file": "",
        "metrics_port": 0,
        "state_directory": str(tmp_path),
        "data_directory": str(tmp_path),
    }
    return Loop(parse(json.dumps(settings), "config.json"))


def test_threads_that_end_with_the_loop_are_no_failure(loop: Loop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped_meanwhile() -> bool:
        loop.stop()
        return False

    monkeypatch.setattr(loop.followers, "are_alive", stopped_meanwhile)
    assert loop.run() == 0
    assert "thread-died" not in capsys.readouterr().err


def test_a_thread_that_ends_by_itself_is_a_failure(loop: Loop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(loop.followers, "are_alive", lambda: False)
    assert loop.run() == 1
    assert "event=thread-died" in capsys.readouterr().err
    loop.stop()
