# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools of the acceptance: verdicts, polls, parsers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._acceptance import tools

RAFT = """\
Node      ID                                    Address             State     Voter  RaftProtocol  Commit Index  Trails Leader By
consul-1  405dad54-e35f-791c-80c7-4a4f13c88f2b  192.0.2.129:8300    leader    true   3             29            -
consul-2  14199b81-17f6-f91b-7200-27ab0889d139  192.0.2.130:8300    follower  true   3             29            0 commits
consul-4  8638054a-abee-0811-ad2b-ad68c55dbd50  192.0.2.132:8300    follower  false  3             29            0 commits
"""


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server on loopback that gives each line the same answer and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _peer = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_raft_peers_are_read_by_column() -> None:
    peers = tools.parse_raft_peers(RAFT)
    assert [(peer.node, peer.address, peer.state, peer.voter) for peer in peers] == [
        ("consul-1", "192.0.2.129", "leader", True),
        ("consul-2", "192.0.2.130", "follower", True),
        ("consul-4", "192.0.2.132", "follower", False),
    ]


@pytest.mark.parametrize("text", ["", "Error getting peers: Failed to retrieve raft configuration", "Node Address State"])
def test_something_else_is_no_list_of_peers(text: str) -> None:
    with pytest.raises(tools.AcceptanceError, match="no list of raft peers"):
        tools.parse_raft_peers(text)


@pytest.mark.parametrize(
    ("service_id", "container"),
    [
        ("consul-1:acceptance-httpfront:8080", "acceptance-httpfront"),
        ("consul-1:web:53:udp", "web"),
        ("consul", ""),
        ("a:b:c", ""),
    ],
)
def test_container_of_a_service_id(service_id: str, container: str) -> None:
    assert tools.container_of(service_id) == container


def test_guard_turns_errors_into_failed_steps_and_goes_on() -> None:
    record = tools.Recorder("n")
    with record.guard(3, "first"):
        raise OSError("refused")
    with record.guard(4, "second"):
        raise KeyError("ours")
    with record.guard(5, "third"):
        record.add(5, "third", True, "unused")
    assert [(step["check"], step["status"], step["message"]) for step in record.steps] == [
        (3, "failed", "refused"),
        (4, "failed", "unexpected error: KeyError('ours')"),
        (5, "passed", ""),
    ]


def test_a_failed_step_without_a_reason_still_says_something() -> None:
    record = tools.Recorder("n")
    assert record.add(1, "t", False) is False
    assert record.steps[0]["message"]


def test_long_output_loses_its_middle() -> None:
    short = tools.shorten("a" * 5000 + "b" * 5000, 100)
    assert short.startswith("a" * 50)
    assert short.endswith("b" * 50)
    assert "9900 characters left out" in short


def test_run_reports_missing_programs_and_time_outs_as_status() -> None:
    assert tools.run(["/nonexistent/program"]).status == 127
    slow = tools.run(["sleep", "5"], timeout=0.2)
    assert slow.status == 124
    assert slow.seconds < 3
    assert tools.run(["sh", "-c", "echo out; echo err >&2; exit 3"])[1:3] == (3, "out\nerr")


def test_must_names_the_command() -> None:
    with pytest.raises(tools.AcceptanceError, match="false ended with 1"):
        tools.must(["false"])


def test_poll_waits_for_the_good_answer() -> None:
    answers = iter([1, 2, 3, 4])
    assert tools.poll(lambda: next(answers), lambda value: value == 3, 5, interval=0.001)[0] == 3


def test_poll_gives_up_in_time_with_the_last_error() -> None:
    def refuse() -> int:
        raise ConnectionRefusedError("nobody there")

    started = time.monotonic()
    answer, _seconds, error = tools.poll(refuse, lambda _value: True, 0.1, interval=0.01)
    assert (answer, error) == (None, "nobody there")
    assert time.monotonic() - started < 3


def test_echo_returns_the_line() -> None:
    with answering(b"[v1.0.0]now [hello]\n") as port:
        assert tools.echo("127.0.0.1", port, "hello") == "[v1.0.0]now [hello]"


def test_echo_of_half_a_line_is_an_error() -> None:
    with answering(b"[v1.0.0]now") as port, pytest.raises(tools.AcceptanceError, match="without a whole line"):
        tools.echo("127.0.0.1", port, "hello")


def test_get_gives_status_body_and_source() -> None:
    with answering(b"HTTP/1.1 404 Not Found\r\nX-Instance: abc\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n") as port:
        answer = tools.get("127.0.0.1", port, host="web.example.org")
    assert (answer.status, answer.body, answer.instance, answer.source) == (404, "no", "abc", "127.0.0.1")


def test_request_log_holds_only_this_run() -> None:
    good = {"event": "request", "path": "/acceptance/r1/n/e/0", "client": "192.0.2.1", "host": "httpfront.example.org"}
    text = "\n".join(
        [
            json.dumps(good),
            json.dumps({**good, "path": "/acceptance/r2/n/e/0"}),
            json.dumps({**good, "path": "/x?/acceptance/r1/"}),
            json.dumps({**good, "event": "started"}),
            'half a line with "/acceptance/r1/',
            '["/acceptance/r1/"]',
        ]
    )
    assert tools.parse_request_log(text, "/acceptance/r1/") == [{"path": "/acceptance/r1/n/e/0", "client": "192.0.2.1", "host": "httpfront.example.org"}]


def test_listeners_name_the_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert tools.listeners({port})[port].startswith(("py", "ruff", "uv"))
    assert tools.listeners({port}) == {}


def test_endpoint_prefers_the_service_address() -> None:
    assert tools.endpoint({"ServiceAddress": "", "Address": "192.0.2.1", "ServicePort": 1}) == "192.0.2.1:1"
    assert tools.endpoint({"ServiceAddress": "192.0.2.2", "Address": "192.0.2.1", "ServicePort": 1}) == "192.0.2.2:1"


def test_names_that_differ_in_case_only_are_found() -> None:
    assert tools.spelled_twice(["consul", "shop", "shop-2"]) == []
    assert tools.spelled_twice(["shop", "Billing", "billing", "CONSUL", "Consul", "consul"]) == ["Billing and billing", "CONSUL and Consul and consul"]
