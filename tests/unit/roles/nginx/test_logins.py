# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which services want a connection logged in, from lines of the access log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nginx_edge.logins import MAX_READ, log_of, logins, recent


def line(service: object = "web", login: object = "NTLM", **more: object) -> bytes:
    """One line as nginx writes it."""
    return json.dumps({"service": service, "login": login, **more}, separators=(",", ":")).encode() + b"\n"


def test_the_last_scheme_of_each_service_counts() -> None:
    assert logins(line() + line("shop", "Negotiate") + line("web", "Kerberos") + line("other", "")) == {
        "shop": "Negotiate",
        "web": "Kerberos",
    }


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"service=web login=NTLM\n",
        line()[:-10],
        line()[10:],
        line("web\n", "NTLM"),
        line("", "NTLM"),
        line("web", "Basic"),
        line(5, "NTLM"),
        line("web", ["NTLM"]),
        line("web", "", uri='/?"login":"NTLM"'),
        b'["login":"x"]\n',
        b'"login":"NTLM"\n',
        b"\xff" + line(),
    ],
)
def test_anything_else_tells_nothing(text: bytes) -> None:
    assert logins(text) == {}


def test_the_end_of_a_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert recent("") == recent(str(log)) == recent(str(tmp_path)) == {}
    log.write_bytes(line("old") + b"x" * MAX_READ + b"\n" + line("new"))
    assert recent(str(log)) == {"new": "NTLM"}


def test_the_log_is_the_one_of_the_edge() -> None:
    assert log_of("server {\n    access_log /var/log/nginx/edge-http.log edge_http buffer=32k;\n}\n") == ("/var/log/nginx/edge-http.log")
    assert log_of("server {\n    access_log off;\n}\naccess_log /var/log/nginx/own.log combined;\n") == ""
