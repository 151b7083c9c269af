# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is started, where, and what forbids it."""

from __future__ import annotations

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._acceptance import samples
from ansible_collections.trinode.platform.plugins.module_utils._acceptance.samples import Context, Node

NODES = [
    Node("consul-1", "192.0.2.129", "server", True, True),
    Node("consul-2", "192.0.2.130", "server", True, True),
    Node("consul-3", "192.0.2.131", "server", True, False),
]


def context(number: int = 0, **more: object) -> Context:
    return Context(node=NODES[number], nodes=NODES, edge_domain="apps.example.org", **more)  # type: ignore[arg-type]


def test_the_actor_is_no_edge_where_there_is_such_a_node() -> None:
    assert context().actor == NODES[2]
    assert context(2).is_actor
    assert Context(node=NODES[0], nodes=NODES[:2]).actor == NODES[1]
    assert Context(node=NODES[0], nodes=[]).actor is None


def test_commands_are_the_seed_s() -> None:
    commands = samples.run_commands(context())
    backend = " ".join(commands["acceptance-httpbackend"])
    assert backend == (
        "docker run -d --name acceptance-httpbackend --restart unless-stopped -p 8081:8081 -l SERVICE_NAME=httpbackend "
        "-l trinode.acceptance=1 trinode/httpbackend:v1.0.0"
    )
    front = commands["acceptance-httpfront"]
    assert {"SERVICE_NAME=httpfront", "SERVICE_TAGS=http", "SERVICE_EDGE_HTTPS=both", "-P"} <= set(front)
    assert {"SERVICE_NAME=tcpfront-9999", "SERVICE_TAGS=tcp"} <= set(commands["acceptance-tcpfront"])
    assert all(samples.LABEL in command for command in commands.values())
    assert all(name.startswith(samples.PREFIX) for name in commands)
    assert {command[-1] for command in commands.values()} | {"trinode/resolve-musl:1"} == set(samples.IMAGES)


def test_the_backend_s_name_is_said_only_where_it_differs() -> None:
    assert "-e" not in samples.run_commands(context())["acceptance-httpfront"]
    other = samples.run_commands(context(datacenter="ward"))["acceptance-httpfront"]
    assert "BACKEND_URL=http://httpbackend.service.ward.consul:8081" in other


def test_endpoints_come_from_the_facts_of_the_start() -> None:
    seen = [
        {"node": "consul-1", "phase": "start", "facts": {"containers": {"acceptance-httpfront": {"port": 32768}}}},
        {"node": "consul-2", "phase": "start", "facts": {}},
        {"node": "consul-3", "phase": "base", "facts": {"containers": {"acceptance-httpfront": {"port": 1}}}},
        {"node": "stranger", "phase": "start", "facts": {"containers": {"acceptance-httpfront": {"port": 1}}}},
    ]
    assert context(seen=seen).endpoints("acceptance-httpfront") == {"consul-1": "192.0.2.129:32768"}


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("[v1.0.0]2026-11-23T09:29:18.363Z [hello]", True),
        ("[v1.0.0]2026-11-23T09:29:18Z [hello]", True),
        ("[v1.0.1]2026-11-23T09:29:18Z [hello]", False),
        ("[v1.0.0]2026-11-23T09:29:18Z [hello there]", False),
        ("[v1.0.0] [hello]", False),
        ("", False),
    ],
)
def test_echo_lines(line: str, good: bool) -> None:
    assert samples.is_echo(line, "hello") is good


def test_answer_of_httpfront_is_the_seed_s() -> None:
    assert samples.answer_of_front() == (
        "this is httpfrontservice, version: v1.0.0, calling backendservice ok, its resp: [this is httpbackendservice, version: v1.0.0 ]"
    )


def test_nothing_forbids_an_empty_platform() -> None:
    assert samples.conflicts(context(), {"consul": []}, [], {}) == []


def test_own_leftovers_are_no_conflict() -> None:
    ours = {"ServiceID": "consul-1:acceptance-httpfront:8080", "ServiceName": "httpfront", "Node": "consul-1"}
    assert samples.conflicts(context(), {"httpfront": ["http"]}, [ours], {9999: "nginx"}) == []


def test_a_foreign_service_of_the_name_is_named() -> None:
    theirs = {"ServiceID": "consul-2:web:8080", "ServiceName": "httpfront", "Node": "consul-2"}
    (problem,) = samples.conflicts(context(), {"httpfront": ["http"]}, [theirs], {})
    assert "consul-1" in problem
    assert "consul-2:web:8080" in problem
    assert "acceptance_sample_services: false" in problem


def test_a_foreign_service_on_a_port_of_ours_is_named() -> None:
    (problem,) = samples.conflicts(context(), {"db-9999": ["tcp"], "db-9998": ["tcp"], "x-9443": ["http"]}, [], {})
    assert "db-9999" in problem


def test_held_ports_count_only_where_they_are_needed() -> None:
    held = {8081: "java", 9999: "socat", 9443: "nginx"}
    assert [problem.split(": ")[1][:9] for problem in samples.conflicts(context(0), {}, [], held)] == ["port 8081", "port 9999"]
    assert len(samples.conflicts(context(2), {}, [], held)) == 1
    assert "nginx" in samples.conflicts(context(2), {}, [], {8081: "nginx"})[0]


def test_a_shrink_is_confirmed_only_when_it_is_ours() -> None:
    assert samples.only_ours(["http/httpfront", "tcp/tcpfront-9999"])
    assert not samples.only_ours(["http/httpfront", "http/patients"])
    assert not samples.only_ours([])
