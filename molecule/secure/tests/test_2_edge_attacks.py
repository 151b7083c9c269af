# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks from a client of the edges: each is refused, and a log of the edge says so."""

from __future__ import annotations

import re

import lab
import pytest
import secure

pytestmark = pytest.mark.usefixtures("outsider")

HOST = "billing.apps.hospital.example"


def logged(edge: str, path: str) -> str:
    """Return the status of a request in the logs of an edge. nginx logs a request without a service in its own log."""
    lines = lab.run(edge, f"grep -h '{path}' /var/log/nginx/edge-http.log /var/log/nginx/access.log", check=False)
    found = re.findall(r'"status":"([0-9]{3})"|" ([0-9]{3}) ', lines)
    return "".join(found[-1]) if found else ""


@pytest.mark.parametrize("edge", lab.EDGES)
@pytest.mark.parametrize(
    ("number", "lengths"),
    [
        (1, "Content-Length: 4\r\nTransfer-Encoding: chunked"),
        (2, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        (3, "Content-Length: 4\r\nContent-Length: 5"),
    ],
)
def test_no_request_is_smuggled_in_the_body_of_another(edge: str, number: int, lengths: str) -> None:
    """With two lengths of one body, which proxies and servers have read differently."""
    path, inner = f"/smuggled-{number}", f"/inner-{number}"
    request = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\n{lengths}\r\n\r\n0\r\n\r\nGET {inner} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    answer, _ended = secure.sent(lab.NODES[edge], 80, request)
    assert answer.startswith("HTTP/1.1 400") and answer.count("HTTP/1.1") == 1, answer
    lab.wait_for(lambda: logged(edge, path) == "400", 15, f"{edge} has logged the refusal")
    assert logged(edge, inner) == ""


@pytest.mark.parametrize("edge", lab.EDGES)
def test_a_client_that_stops_in_the_middle_is_let_go(edge: str) -> None:
    """nginx itself would wait for a minute."""
    request = f"GET /stopped HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: "
    _answer, ended = secure.sent(lab.NODES[edge], 80, request, seconds=45)
    assert ended, "the edge ends the connection"
    lab.wait_for(lambda: logged(edge, "/stopped") == "408", 15, f"{edge} has logged the end")


@pytest.mark.parametrize("edge", lab.EDGES)
def test_status_and_metrics_are_for_the_host_alone(edge: str) -> None:
    for port in (8098, 8099):
        assert "status=7" in secure.outside(f"curl -s -m 5 http://{lab.NODES[edge]}:{port}/"), "curl says 7 for a refused connection"
    # Nor for a page in a browser on the host, by a name of others that leads to loopback.
    ask = "curl -s -m 5 -o /dev/null -w '%{http_code}' -H 'Host: evil.example:8098' http://127.0.0.1:8098/"
    assert lab.run(edge, ask) in ("403", "421", "404")
