# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalogue names no more: held while it still answers, let go when it has ended."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from apply_rig import LIBRARY, Edge

sys.path.insert(0, str(LIBRARY))

from nginx_edge import answering
from nginx_edge.nginxconf import Place

COUNT = 10


@pytest.fixture
def instances() -> Iterator[dict[str, socket.socket]]:
    """Ten instances that take connections."""
    with ExitStack() as stack:
        yield {f"s{number}": stack.enter_context(socket.create_server(("127.0.0.1", 0))) for number in range(COUNT)}


def catalogue(edge: Edge, ports: dict[str, int], canary: str = "") -> str:
    """What consul-template renders for these services, with the report that the templates of the platform write."""
    parts = []
    for name, port in ports.items():
        parts += [
            "#! " + json.dumps({"kind": "served", "side": "http", "service": name, "upstream": f"http_{name}"}),
            f"upstream http_{name} {{ server 127.0.0.1:{port}; }}",
            f'server {{ listen 127.0.0.1:{edge.http_port}; server_name {name}.test; return 200 "{name}\\n"; }}',
        ]
    if canary:
        parts.append(f"upstream http_{canary}.canary {{ server 127.0.0.1:{ports[canary]}; }}")
    return "\n".join(parts) + "\n"


def ports(instances: dict[str, socket.socket]) -> dict[str, int]:
    return {name: instance.getsockname()[1] for name, instance in instances.items()}


def test_a_wiped_catalogue_is_held(edge: Edge, instances: dict[str, socket.socket]) -> None:
    edge.stage(catalogue(edge, ports(instances)))
    edge.apply("--strict")
    edge.stage("")
    result = edge.apply()
    assert result["outcome"] == "refused" and "10 of 10 services would vanish at once" in result["message"]
    assert edge.ask("s9") == (200, "s9")


def test_what_has_ended_is_let_go(edge: Edge, instances: dict[str, socket.socket]) -> None:
    """All that ran before a power cut, say: to hold it would lead requests to whoever gets these ports next."""
    edge.stage(catalogue(edge, ports(instances)))
    edge.apply("--strict")
    for instance in instances.values():
        instance.close()
    edge.stage("")
    assert edge.apply("--strict")["outcome"] == "applied"
    assert edge.ask("s9")[0] == 404 and edge.status()["refused"] is None


def test_what_ends_in_steps_is_let_go(edge: Edge, instances: dict[str, socket.socket]) -> None:
    """One node after the other takes its own out; what was let go so is never counted as missing."""
    there = ports(instances)
    edge.stage(catalogue(edge, there))
    edge.apply("--strict")
    for names in (("s0", "s1", "s2"), ("s3", "s4", "s5"), ("s6", "s7", "s8", "s9")):
        for name in names:
            instances[name].close()
            del there[name]
        edge.stage(catalogue(edge, there))
        assert edge.apply("--strict")["outcome"] == "applied", names
    assert edge.status()["refused"] is None


def test_what_answers_counts_beside_what_has_ended(edge: Edge, instances: dict[str, socket.socket]) -> None:
    """A node is lost, and then the catalogue: the four that have ended are none of the six that are missed."""
    there = ports(instances)
    edge.stage(catalogue(edge, there))
    edge.apply("--strict")
    for name in ("s0", "s1", "s2", "s3"):
        instances[name].close()
    edge.stage("")
    result = edge.apply()
    assert result["outcome"] == "refused" and "6 of 6 services would vanish at once (http/s4, " in result["message"]
    assert edge.status()["refused"]["gone_count"] == 6
    assert edge.run("--confirm-shrink").returncode == 0
    assert edge.ask("s9")[0] == 404


def test_few_that_answer_among_many_that_ended_are_let_go(edge: Edge, instances: dict[str, socket.socket]) -> None:
    edge.stage(catalogue(edge, ports(instances)))
    edge.apply("--strict")
    for name in list(instances)[:7]:
        instances[name].close()
    edge.stage("")
    assert edge.apply("--strict")["outcome"] == "applied"


def test_a_canary_that_answers_is_an_instance(edge: Edge, instances: dict[str, socket.socket]) -> None:
    """So is each of several: a service has ended when none of its instances answers."""
    there = ports(instances)
    dead = edge.free_port()
    text = catalogue(edge, dict.fromkeys(there, dead))
    text += "".join(f"upstream http_{name}.canary {{ server 127.0.0.1:{port}; }}\n" for name, port in there.items())
    edge.stage(text)
    edge.apply("--strict")
    edge.stage("")
    assert edge.apply()["outcome"] == "refused"


def test_a_service_with_a_socket_is_held(edge: Edge) -> None:
    """Nobody can tell from outside whether it has ended."""
    text = catalogue(edge, {f"s{number}": 9 for number in range(COUNT)})
    edge.stage(text.replace("server 127.0.0.1:9;", f"server unix:{edge.sockets}/x.sock;"))
    assert edge.apply("--strict")["outcome"] == "applied"
    edge.stage("")
    assert edge.apply()["outcome"] == "refused"


def test_what_could_not_be_asked_is_held(edge: Edge, instances: dict[str, socket.socket]) -> None:
    """A host that is short of descriptors, ports or routes knows nothing about an instance."""
    edge.stage(catalogue(edge, ports(instances)))
    edge.apply("--strict")
    edge.stage("")
    # Enough for the program and for nginx, and not for ten connections.
    edge.prefix = ("prlimit", "--nofile=10")
    result = edge.apply()
    assert result["outcome"] == "refused" and "10 of 10 services would vanish at once" in result["message"]


def test_an_instance_with_an_ipv6_address_is_asked(edge: Edge) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as instance:
        there = {f"s{number}": instance.getsockname()[1] for number in range(COUNT)}
        edge.stage(catalogue(edge, there).replace("server 127.0.0.1:", "server [::1]:"))
        assert edge.apply("--strict")["outcome"] == "applied"
        edge.stage("")
        assert edge.apply()["outcome"] == "refused"
    assert edge.apply("--strict")["outcome"] == "applied"


def test_an_instance_that_lets_clients_wait_is_silent(edge: Edge) -> None:
    """As one of a host that is off: nobody answers within the time, so the service has ended."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        edge.stage(catalogue(edge, dict.fromkeys((f"s{number}" for number in range(COUNT)), full.getsockname()[1])))
        edge.apply("--strict")
        edge.stage("")
        assert edge.apply("--strict")["outcome"] == "applied"


def test_many_silent_instances_cost_no_more_than_the_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the time is not enough for may answer."""
    monkeypatch.setattr(answering, "ALL_SECONDS", 0)
    refusing = {Place("127.0.0.1", Edge.free_port()) for _ in range(3)}
    assert answering.answering(refusing) == refusing
