# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the limits of the edge refused, from lines of its access logs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from nginx_edge.limited import Counted, Hits, logs_of, refusals


def line(limit: str = "request_limit", client: str = "192.0.2.1", **more: object) -> bytes:
    """Return one line as nginx writes it."""
    fields = {"time": "2026-01-01T00:00:00+00:00", "client": client, "limited": limit, "host": "web.example", **more}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def test_each_refusal_counts() -> None:
    text = b'2026-01-01T00:00:00+00:00 client=2001:db8::1 limited=connection_limit port=443 service= sni=""\n'
    assert refusals(line() + line("") + line("rate_limit", "192.0.2.2") + text) == [
        ("request_limit", "192.0.2.1"),
        ("rate_limit", "192.0.2.2"),
        ("connection_limit", "2001:db8::1"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        line("nonsense"),
        line("", agent='","limited":"request_limit"'),
        line("", host='x","limited":"request_limit'),
        b'2026-01-01T00:00:00+00:00 client=192.0.2.1 limited= host=x agent=" limited=request_limit "\n',
    ],
)
def test_a_client_cannot_write_a_refusal(text: bytes) -> None:
    assert refusals(text) == []


def test_the_logs_of_a_side() -> None:
    text = "server {\n    access_log /var/log/nginx/a.log edge_http buffer=32k flush=1s;\n}\nserver {\n    access_log off;\n}\n"
    stream = "    access_log /var/log/nginx/b.log edge_tcp if=$edge_tls_refused;\n    access_log /var/log/nginx/b.log edge_tcp;\n"
    assert logs_of(text) == ["/var/log/nginx/a.log"] and logs_of(stream) == ["/var/log/nginx/b.log"]


def test_a_log_is_followed_over_rotation_and_restart(tmp_path: Path) -> None:
    log, kept = tmp_path / "http.log", str(tmp_path / "limited.json")
    log.write_bytes(line() * 3)
    assert not Counted(kept).follow([str(log)], 1.0), "a log that was not followed counts from now on"
    counted = Counted(kept)
    counted.follow([str(log)], 1.0)
    counted.save()

    def append(data: bytes) -> Counted:
        with log.open("ab") as handle:
            handle.write(data)
        again = Counted(kept)
        again.follow([str(log)], 2.0)
        again.save()
        return again

    assert append(line("rate_limit") + line()[:30]).hits["rate_limit"] == Hits(1, 2.0, "192.0.2.1")
    # The rest of that line.
    assert append(line()[30:]).hits["request_limit"].count == 1
    with log.open("ab") as handle:
        handle.write(line() * 2)
    log.rename(tmp_path / "http.log.1")
    assert append(line("", "192.0.2.9")).hits["request_limit"].count == 3
    assert append(line(client="192.0.2.9")).document()["request_limit"] == {"count": 4, "last": 2.0, "client": "192.0.2.9"}
    with (tmp_path / "http.log.1").open("ab") as handle:
        handle.write(line("rate_limit"))
    assert append(b"").hits["rate_limit"].count == 2, "nginx writes to the rotated log until it has opened the new one"
    log.write_bytes(line())
    assert append(b"").hits["request_limit"].count == 5, "a log that was cut off is read from its beginning"
    log.unlink()
    os.mkfifo(log)
    again = Counted(kept)
    assert not again.follow([str(log)], 3.0), "what is not a regular file is not read"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hits": 3}', '{"hits": {"request_limit": [1]}}', '{"places": {"/x": "y"}}', '{"rotated": {"/x": [1]}}'])
def test_a_damaged_file_counts_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "limited.json").write_text(text)
    counted = Counted(str(tmp_path / "limited.json"))
    assert counted.document() == {} and counted.places == {}
