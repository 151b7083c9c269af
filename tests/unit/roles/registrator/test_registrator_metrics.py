# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the engine's numbers, over a real connection."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from registrator.metrics import Metrics, serve

FILES = Path(__file__).resolve().parents[4] / "roles" / "registrator" / "files"


@pytest.fixture(name="port")
def fixture_port() -> Iterator[int]:
    metrics = Metrics()
    metrics.set("services", 7)
    server = serve(metrics, 0)
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def ask(port: int, method: str, path: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers={"Accept": "text/plain"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type") or "", answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("GET", "/metrics", 200, "registrator_services 7\n"),
        ("GET", "/metrics?x=1", 200, "registrator_services 7\n"),
        ("HEAD", "/metrics", 200, ""),
        ("GET", "/", 404, "see /metrics"),
        ("POST", "/metrics", 405, "only GET"),
    ],
)
def test_the_page(port: int, method: str, path: str, status: int, word: str) -> None:
    found, kind, text = ask(port, method, path)
    assert (found, kind) == (status, "text/plain; version=0.0.4; charset=utf-8")
    assert word in text


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", b"\x00\xff" * 9000, b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 500])
def test_after_any_client_the_next_one_is_answered(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
    assert ask(port, "GET", "/metrics")[0] == 200


def test_it_needs_no_table_of_html_entities() -> None:
    program = "import sys, registrator.metrics; print('html.entities' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=FILES, capture_output=True, text=True, timeout=40, check=True
    )  # fmt: skip
    assert done.stdout == "False\n"
