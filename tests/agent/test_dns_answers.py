# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much larger than a question the answers of a real agent are: that is what a forged sender gets for each byte."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import typing as t
from pathlib import Path

import pytest
import yaml
from edge_rig import Consul, free_port, poll, tool

ROLE = Path(__file__).resolve().parents[2] / "roles" / "consul_server"
NODES = ("192.0.2.129", "192.0.2.130", "192.0.2.131")
INSTANCES = 60
NAME = "shop.service.dc1.consul"
TYPES = {"A": 1, "TXT": 16, "AAAA": 28, "SRV": 33, "ANY": 255}
OPT = 41
#: What resolvers announce: musl nothing, today's stub resolvers 1232 bytes, older ones 4096, an attacker all there is.
PLAIN, TODAY, OLDER, ALL = 0, 1232, 4096, 65535


def settings() -> dict[str, t.Any]:
    """Return what the role makes of DNS."""
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    constants = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))
    found = dict(constants["__consul_server_config_agent"]["dns_config"])
    assert found["a_record_limit"] == "{{ consul_server_dns_a_record_limit }}"
    return {**found, "a_record_limit": defaults["consul_server_dns_a_record_limit"]}


class Answer(t.NamedTuple):
    """One answer: its size against that of the question, and what it holds."""

    ratio: float
    size: int
    records: int
    more: int
    truncated: bool


def question(kind: str, announced: int, name: str = NAME) -> bytes:
    """Return a question, with EDNS when a size of the answer is announced."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    extra = b"\0" + struct.pack(">HHIH", OPT, announced, 0, 0) if announced else b""
    header = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 1 if announced else 0)
    return header + labels + b"\0" + struct.pack(">HH", TYPES[kind], 1) + extra


def read(asked: bytes, data: bytes) -> Answer:
    """Return what matters of an answer."""
    flags, _questions, answers, _authorities, more = struct.unpack(">HHHHH", data[2:12])
    return Answer(len(data) / len(asked), len(data), answers, more, bool(flags & 0x0200))


def ask(port: int, kind: str, announced: int = PLAIN) -> Answer:
    """Ask over UDP, as a forged sender has to."""
    asked = question(kind, announced)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(asked, ("127.0.0.1", port))
        return read(asked, client.recv(65535))


def ask_tcp(port: int, kind: str) -> Answer:
    """Ask over TCP, as a resolver does whose answer was truncated."""
    asked = question(kind, PLAIN)
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(struct.pack(">H", len(asked)) + asked)
        with client.makefile("rb") as stream:
            (length,) = struct.unpack(">H", stream.read(2))
            return read(asked, stream.read(length))


@pytest.fixture(name="dns", scope="module")
def fixture_dns(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[int]:
    """The DNS port of an agent with the role's settings, which knows a service of 60 instances on three nodes."""
    port = free_port()
    agent = Consul(tool("consul", "CONSUL_BIN"), tmp_path_factory.mktemp("agent"), dns=port, dns_config=settings())
    try:
        for number in range(INSTANCES):
            address = NODES[number % len(NODES)]
            # As agents say it of themselves.
            meta = {"consul-network-segment": "", "consul-version": "1.22.5"}
            service = {"ID": f"shop-{number}", "Service": "shop", "Address": address, "Port": 32768 + number}
            node = {"Node": f"consul-{number % len(NODES) + 1}", "Address": address, "NodeMeta": meta}
            agent.ask("PUT", "/v1/catalog/register", {**node, "Service": service})
        poll("the agent answers for all instances", lambda: ask_tcp(port, "SRV").records == INSTANCES)
        yield port
    finally:
        agent.stop()


@pytest.mark.parametrize("announced", [PLAIN, TODAY, OLDER, ALL])
@pytest.mark.parametrize(("kind", "most"), [("A", 1.5), ("AAAA", 2.5), ("ANY", 1.5), ("TXT", 1.5)])
def test_answers_about_addresses_are_hardly_larger_than_the_question(dns: int, kind: str, most: float, announced: int) -> None:
    answer = ask(dns, kind, announced)
    assert answer.ratio <= most, answer
    assert not answer.truncated and answer.records == (0 if kind == "AAAA" else 1)


# The largest ratio for each size that a question announces.
SRV = {PLAIN: 6.0, TODAY: 24.0, OLDER: 72.0, ALL: 72.0}


@pytest.mark.parametrize(("announced", "most"), SRV.items())
def test_an_answer_with_ports_is_bounded_by_what_the_question_announces(dns: int, announced: int, most: float) -> None:
    answer = ask(dns, "SRV", announced)
    assert answer.ratio <= most, answer
    assert answer.size <= max(announced, 512)
    # Targets and their addresses, and the OPT record: nothing that was not asked for.
    assert answer.more <= answer.records + (1 if announced else 0), answer
    assert answer.truncated == (answer.records < INSTANCES)


def test_a_truncated_answer_is_complete_over_tcp(dns: int) -> None:
    assert ask(dns, "SRV").truncated and ask(dns, "SRV").records == 3
    assert ask_tcp(dns, "SRV").records == INSTANCES
    assert ask_tcp(dns, "A").records == 1


def test_idle_connections_keep_no_one_from_asking_over_tcp(dns: int) -> None:
    """DNS has no limit of connections for an address, and none stays that says nothing."""
    with contextlib.ExitStack() as held:
        idle = [held.enter_context(socket.create_connection(("127.0.0.1", dns), 5)) for _ in range(300)]
        assert ask_tcp(dns, "SRV").records == INSTANCES

        def closed() -> bool:
            return len(select.select(idle, [], [], 0)[0]) == len(idle)

        poll("the agent closes them", closed, 60)
