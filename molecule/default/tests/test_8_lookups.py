# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookups on hosts and in containers while another node is lost, or the host's own agent is down: nobody waits."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import typing as t

import faults
import lab
import lookups
import pytest
import traffic

COUNT = 20
LOST, OTHERS = "consul-3", ("consul-1", "consul-2")


@pytest.fixture(scope="module", autouse=True)
def fixture_images() -> t.Iterator[None]:
    lookups.prepare(*OTHERS)
    faults.prepare_boot(LOST)
    yield
    lookups.remove(*OTHERS)


@contextlib.contextmanager
def agent_down(node: str) -> t.Iterator[None]:
    """The agent of a node is stopped."""
    lab.run(node, "systemctl stop consul")
    try:
        yield
    finally:
        lab.run(node, "systemctl start consul")
        traffic.settle()


def ask_everywhere() -> list[lookups.Seen]:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return [seen for found in pool.map(lambda node: lookups.ask(node, COUNT), OTHERS) for seen in found]


def test_with_every_node_up() -> None:
    """The lookups themselves are sound."""
    assert lookups.troubles(ask_everywhere()) == []


def test_a_lost_node_slows_down_no_lookup_elsewhere() -> None:
    with faults.nodes_lost(LOST):
        assert lookups.troubles(ask_everywhere()) == []
    traffic.settle(120)


def test_a_node_that_falls_silent_slows_down_no_lookup_elsewhere() -> None:
    with faults.packets_lost(LOST, ("in", "out")):
        assert lookups.troubles(ask_everywhere()) == []
    traffic.settle(120)


@pytest.mark.parametrize("node", OTHERS)
def test_an_agent_that_is_down_slows_down_no_lookup_of_its_node(node: str) -> None:
    with agent_down(node):
        assert lookups.troubles(lookups.ask(node, COUNT)) == []


def test_no_resolver_spreads_its_questions_over_all_nodes() -> None:
    """On hosts, and in the file that a new container gets."""
    for node in OTHERS:
        lab.run(node, f"docker run -d --name lookups-file --entrypoint python3 {lookups.GLIBC} -c 'import time; time.sleep(60)' >/dev/null")
        try:
            path = json.loads(lab.run(node, "docker inspect lookups-file"))[0]["ResolvConfPath"]
            for file, first in (("/etc/resolv.conf", "127.0.0.1"), (path, lab.NODES[node])):
                text = lab.run(node, f"cat {file}")
                servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver")]
                assert servers[0] == first and "rotate" not in text, f"{node}: {file}\n{text}"
        finally:
            lab.run(node, "docker rm -f lookups-file >/dev/null")
