# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests, the guard in front of them, and what other programs print."""

from __future__ import annotations

import socket
import threading
import typing as t

import pytest

from bench import changes, consul, lab, load
from bench.lab import Endpoint, Lab, LabError, Node

WRK = """\
Running 6s test @ http://172.31.88.129:80/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.02ms    1.20ms  24.55ms   80.21%
    Req/Sec    10.71k   812.55    12.30k    71.67%
  Latency Distribution
     50%  852.00us
     75%    3.41ms
     90%    4.27ms
     99%    1.02s
  64012 requests in 6.01s, 11.23MB read
{extra}Requests/sec:  10653.11
Transfer/sec:      1.87MB
"""


def test_wrk_is_read() -> None:
    assert load.parse_wrk(WRK.format(extra="")) == (10653.11, 0.852, 1020.0, 0, 0)
    extra = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 17\n"
    assert load.parse_wrk(WRK.format(extra=extra))[3:] == (17, 10)
    with pytest.raises(ValueError, match="printed no rate"):
        load.parse_wrk("unable to connect to 172.31.88.129:http Connection refused")


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\npage-1 host\n", 200, "page-1 host"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", 502, ""),
        (b"", 0, "no whole answer: b''"),
        (b"HTTP/1.1 200 OK\r\nServer", 0, "no whole answer: b'HTTP/1.1 200 OK\\r\\nServer'"),
        (b"\x15\x03\x01\r\n\r\n", 0, "no whole answer: b'\\x15\\x03\\x01\\r\\n\\r\\n'"),
    ],
)
def test_answers_are_read(data: bytes, status: int, body: str) -> None:
    assert load.parse_answer(data) == (status, body)


class Server:
    """Answers on loopback. Each connection gets as many answers as the plan says, and is closed then without a word."""

    def __init__(self, plan: t.Sequence[int]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.plan = list(plan)
        self.endpoint = Endpoint(Node("loopback", "none", "none", "127.0.0.1"), self.listener.getsockname()[1])
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        for answers in self.plan:
            connection, _ = self.listener.accept()
            with connection:
                connection.settimeout(10)
                for _ in range(answers):
                    data = b""
                    while b"\r\n\r\n" not in data:
                        part = connection.recv(4096)
                        if not part:
                            return
                        data += part
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")

    def stop(self) -> None:
        self.listener.close()
        self.thread.join(10)


def test_a_request_on_a_connection_that_was_closed_is_sent_again_once() -> None:
    server = Server([2, 1])
    try:
        client = load.KeptConnection(server.endpoint, "x")
        assert [client.ask() for _ in range(3)] == [(200, "yes")] * 3
        assert client.resent == 1
        client.close()
    finally:
        server.stop()


def test_a_new_connection_that_gets_no_answer_is_a_failure() -> None:
    server = Server([0, 0])
    try:
        client = load.KeptConnection(server.endpoint, "x")
        assert client.ask().status == 0
        assert client.resent == 0
        assert load.ask(server.endpoint, "x").status == 0
    finally:
        server.stop()


def inspected(name: str, ident: str, address: str, running: bool = True) -> dict[str, t.Any]:
    return {"Name": f"/{name}", "Id": ident, "State": {"Running": running}, "NetworkSettings": {"Networks": {"lab": {"IPAddress": address}}}}


NODE = Node("consul-1", "lab-consul-1", "aaa", "172.31.88.129")


@pytest.mark.parametrize(
    "now",
    [
        pytest.param([], id="gone"),
        pytest.param([inspected("lab-consul-1", "aaa", "172.31.88.129", running=False)], id="stopped"),
        pytest.param([inspected("lab-consul-1", "bbb", "172.31.88.129")], id="another container"),
        pytest.param([inspected("lab-consul-1", "aaa", "172.31.88.140")], id="another address"),
    ],
)
def test_no_load_goes_to_what_is_no_container_of_this_run(monkeypatch: pytest.MonkeyPatch, now: list[dict[str, t.Any]]) -> None:
    answers = {"documents": [inspected("lab-consul-1", "aaa", "172.31.88.129")]}

    class Done:
        @property
        def stdout(self) -> bytes:
            import json

            return json.dumps(answers["documents"]).encode()

    monkeypatch.setattr(lab, "docker", lambda *_arguments, **_options: Done())
    nodes = Lab("lab", [NODE])
    nodes.confirm([Endpoint(NODE, 80)])
    answers["documents"] = now
    monkeypatch.setattr(load, "ask", lambda *_: pytest.fail("a request was sent"))
    with pytest.raises(LabError, match="nothing is sent there"):
        load.Watch(nodes, [Endpoint(NODE, 80)], "x", lambda _: True)
    with pytest.raises(LabError, match="nothing is sent there"):
        load.SteadyLoad(nodes, [Endpoint(NODE, 80)], "x", 10, 1, lambda _: True)
    with pytest.raises(LabError, match="nothing is sent there"):
        load.wrk(nodes, NODE, Endpoint(NODE, 80), "x", 1, 1)
    with pytest.raises(LabError, match="without a single endpoint"):
        nodes.confirm([])


def test_the_way_out_goes_on_after_a_step_that_failed() -> None:
    steps: list[str] = []

    def fail(word: str) -> None:
        steps.append(word)
        raise LabError(word)

    lab.undo(lambda: steps.append("first"), lambda: steps.append("second"))
    with pytest.raises(LabError, match="third"):
        lab.undo(lambda: fail("third"), lambda: fail("fourth"), lambda: steps.append("last"))
    assert steps == ["first", "second", "third", "fourth", "last"]


def test_docker_times_keep_their_nanoseconds() -> None:
    assert lab.parse_docker_time("2026-01-02T03:04:05.678901234Z") == pytest.approx(1767323045.678901, abs=1e-6)
    assert lab.parse_docker_time("2026-01-02T03:04:05Z") == 1767323045


def test_operations_of_a_transaction() -> None:
    instance = consul.External("a-1", "a", "192.0.2.1", 80)
    assert consul.operations([instance], "set") == [
        {"Service": {"Verb": "set", "Node": "bench-external", "Service": {"ID": "a-1", "Service": "a", "Address": "192.0.2.1", "Port": 80, "Tags": ["http"]}}}
    ]
    assert consul.operations([instance], "delete") == [{"Service": {"Verb": "delete", "Node": "bench-external", "Service": {"ID": "a-1", "Service": "a"}}}]


def test_what_the_api_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "docker", lambda *_arguments, **_options: pytest.fail("Docker was called"))
    nodes = Lab("lab", [NODE])
    monkeypatch.setattr(nodes, "confirm", lambda _endpoints: None)
    api = consul.Consul(nodes, NODE)
    monkeypatch.setattr(api, "call", lambda *_words: ({"consul": [], "a": ["http", "edge.x=y"], "b": ["tcp"]}, 7))
    assert api.services_with_tag("http") == {"a"}
    monkeypatch.setattr(api, "call", lambda *_words: ({"Healthy": True}, 7))
    assert api.healthy()

    def unwell(*_words: str) -> t.NoReturn:
        raise LabError("answered 429")

    monkeypatch.setattr(api, "call", unwell)
    assert not api.healthy()


@pytest.mark.parametrize(
    ("answer", "own", "through", "gone"),
    [
        (load.Answer(200, "solo-1 bench-solo.apps.demo.example"), True, True, False),
        (load.Answer(200, "solo-1 bench-solo"), True, True, False),
        (load.Answer(200, "solo-2 bench-solo"), False, True, False),
        # The seed serves an unknown name from its first server.
        (load.Answer(200, "page-1 bench-change"), False, False, True),
        (load.Answer(404, "No service has this name on this edge."), False, False, True),
        (load.Answer(503, "Service bench-solo has no healthy instance now."), False, False, True),
        (load.Answer(502, ""), False, False, False),
        (load.Answer(0, "ConnectionRefusedError"), False, False, False),
    ],
)
def test_what_an_answer_says(answer: load.Answer, own: bool, through: bool, gone: bool) -> None:
    assert changes.is_from("solo-1")(answer) is own
    assert changes.is_for("bench-solo")(answer) is through
    assert changes.is_gone("solo-1", "bench-solo")(answer) is gone
