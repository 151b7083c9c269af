# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edges for the tests of the apply program, and where these find what they share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "render")]

from apply_rig import NGINX, Edge


@pytest.fixture
def edge(tmp_path: Path) -> Any:
    """An edge without services, up and running."""
    if NGINX is None:
        pytest.fail("these tests need nginx: apt-get install nginx-light libnginx-mod-stream")
    for path in tmp_path.parents:
        # pytest makes its directories private; nginx's workers have another user.
        if path.stat().st_uid == os.getuid() and path != Path("/") and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    made = Edge(tmp_path, tmp_path / "state")
    yield made
    made.stop()


@pytest.fixture
def serving(edge: Edge) -> Edge:
    """An edge with two services of each side."""
    edge.stage(edge.http("one", "two"), edge.stream())
    result = edge.apply("--strict")
    assert result["outcome"] == "applied", result
    return edge


@pytest.fixture
def log(edge: Edge) -> Iterator[Path]:
    """An access log where staged files may have one."""
    path = Path(f"/var/log/nginx/edge-test-{edge.http_port}.log")
    if not os.access(path.parent, os.W_OK):
        pytest.skip(f"needs the right to write to {path.parent}")
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def service(edge: Edge) -> Iterator[Callable[[], None]]:
    """Starts the program as systemd does, with a request."""
    running: list[subprocess.Popen[str]] = []

    def start() -> None:
        pipe = edge.root / "apply.request"
        os.mkfifo(pipe)
        command = ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec "$@" 3<>"$0"', str(pipe), *edge.command("--service")]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))

    yield start
    for process in running:
        process.terminate()
        process.communicate(timeout=10)
