# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hundred containers that come and go while Docker, agents and engines fail; and a service that is replaced under load."""

from __future__ import annotations

import json
import os
import random
import threading
import time
import typing as t

import lab
import pytest
import traffic
from registration import IMAGE, Node

# CHAOS_SEED repeats a run: the same orders to the same containers, and the same faults.
SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
CHAOS_SECONDS = 120.0
# What is not right at the pause is printed, and has to be right soon: an agent brings nothing to the catalogue while a killed leader has no successor.
HEALED_SECONDS = 10.0
PAUSE_SECONDS = 2.0
CONTAINERS = 100
ORDERS_A_BURST = 10

ORDERS = {
    "start": ("docker start {0}", 30),
    "stop": ("docker stop -t 0 {0}", 15),
    "kill": ("docker kill {0}", 15),
    "restart": ("docker restart -t 0 {0}", 15),
    "anew": ("docker rm -f {0}; {1}", 15),
    "pause": ("docker pause {0}", 5),
    "unpause": ("docker unpause {0}", 10),
}

FAULTS = {
    "Docker restarted": "systemctl reset-failed docker docker.socket; systemctl restart docker",
    "Docker killed": "systemctl reset-failed docker docker.socket; systemctl kill -s KILL docker; sleep 0.5; systemctl start docker",
    "agent restarted": "systemctl reset-failed consul; systemctl restart consul",
    "agent killed": "systemctl reset-failed consul; systemctl kill -s KILL consul; sleep 0.5; systemctl start consul",
    "engine killed": "systemctl kill -s KILL registrator",
    "engine restarted": "systemctl restart registrator",
}


class Site:
    """The nodes with a third of the containers each, and one stream of chance for each, so that a seed gives the same orders again."""

    def __init__(self) -> None:
        self.nodes = [Node(name, "chaos-") for name in lab.NODES]
        self.names: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        self.chance = {node.name: random.Random(f"{SEED} {node.name}") for node in self.nodes}
        for number in range(CONTAINERS):
            self.names[self.nodes[number % len(self.nodes)].name].append(f"chaos-{number:03d}")

    def create(self, name: str) -> str:
        """How a container is made; its kind depends on its number only."""
        number = int(name[-3:])
        ports = "--expose 80 --expose 53/udp" if number % 10 == 0 else "--expose 80"
        policy = "--restart always" if number % 3 == 0 else ""
        return f"docker create --name {name} -P {ports} {policy} -l SERVICE_NAME=chaos-{number % 7} {IMAGE} sleep 3600"

    def burst(self, node: Node) -> str:
        """A handful of orders."""
        chance = self.chance[node.name]
        orders = chance.choices(list(ORDERS), [weight for _command, weight in ORDERS.values()], k=ORDERS_A_BURST)
        commands = []
        for order in orders:
            name = chance.choice(self.names[node.name])
            commands.append(ORDERS[order][0].format(name, self.create(name)))
        # What fails because Docker is away, or because nothing is paused, is part of the game.
        return "; ".join(commands) + "; true"

    def everywhere(self, work: t.Callable[[Node], t.Any]) -> None:
        """On all nodes at the same time; the first error is raised."""
        errors: list[BaseException] = []

        def run(node: Node) -> None:
            try:
                work(node)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(node,)) for node in self.nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]


def compare(node: Node) -> tuple[set[t.Any], set[t.Any]]:
    """Ghosts and missing ones."""
    catalogue, containers = node.catalogue(), node.containers()
    return catalogue - containers, containers - catalogue


@pytest.fixture(name="site")
def fixture_site() -> t.Iterator[Site]:
    site = Site()
    site.everywhere(Node.clean)
    yield site
    site.everywhere(Node.clean)


def test_the_catalogue_is_the_running_containers_at_every_pause(site: Site) -> None:
    print(f"CHAOS_SEED={SEED}")
    chance = random.Random(SEED)
    foreign = {"foreign-db": 5432, "{}:no-container:80": 80, "other:container:80": 80}
    for node in site.nodes:
        for identity, port in foreign.items():
            body = {"ID": identity.format(node.name), "Name": "foreign", "Port": port, "Address": "192.0.2.1", "Meta": {"whose": "somebody else's"}}
            node.put("/v1/agent/service/register", body)

    def foreigners(node: Node) -> dict[str, t.Any]:
        return {key: value for key, value in node.api("/v1/agent/services").items() if value["Service"] == "foreign"}

    before = {node.name: foreigners(node) for node in site.nodes}
    story: list[str] = []
    wrong: list[str] = []
    try:
        site.everywhere(
            lambda node: node.run(
                "; ".join(site.create(name) for name in site.names[node.name]) + "; docker start " + " ".join(site.names[node.name][::3]) + " >/dev/null"
            )
        )
        faults: list[str] = []
        begun = time.monotonic()
        while time.monotonic() - begun < CHAOS_SECONDS or len(story) < len(FAULTS):
            # Each kind has its turn before one comes again.
            faults = faults or chance.sample(list(FAULTS), len(FAULTS))
            fault, victim, delay = faults.pop(), chance.choice(site.nodes), chance.uniform(0.0, 3.0)
            bursts = {node.name: site.burst(node) for node in site.nodes}

            def strike(victim: Node = victim, fault: str = fault, delay: float = delay) -> None:
                time.sleep(delay)
                victim.run(FAULTS[fault])

            striker = threading.Thread(target=strike)
            striker.start()
            site.everywhere(lambda node, bursts=bursts: node.run(bursts[node.name], check=False))
            striker.join()
            victim.whole()
            story.append(f"{time.monotonic() - begun:.0f} s: {victim.name}: {fault}")
            # Not a wait for something: it is the pause after which everything has to be right.
            time.sleep(PAUSE_SECONDS)
            for node in site.nodes:
                ghosts, missing = compare(node)
                if ghosts or missing:
                    since = time.monotonic()
                    node.settled(60)
                    late = time.monotonic() - since
                    line = f"after {story[-1]}: {node.name}: ghosts {ghosts}, missing {missing}, right {late:.1f} s later"
                    print(line)
                    if late > HEALED_SECONDS:
                        wrong.append(line)
        report = "\n".join(story)
        print(report)
        assert not wrong, "\n".join([f"CHAOS_SEED={SEED}", *wrong, report, *(lab.journal(node.name, "registrator") for node in site.nodes)])
        for node in site.nodes:
            assert compare(node) == (set(), set())
            assert foreigners(node) == before[node.name], "other people's registrations are untouched"
            assert len(node.containers()) > 3, "nothing runs, so nothing was proven"
    finally:
        for node in site.nodes:
            node.forget(*(identity.format(node.name) for identity in foreign))


# A service that is replaced ---------------------------------------------------------------------------------------------

SERVICE = "rollweb"


class Instance:
    """One container of the service on a node."""

    def __init__(self, node: Node, version: str) -> None:
        self.node = node
        self.name = f"roll-{version}"
        self.node.run(
            f"docker run -d -P --name {self.name} -l SERVICE_NAME={SERVICE} -l SERVICE_TAGS=http -l SERVICE_VERSION={version}"
            f" -e SAMPLE_VERSION={version} -e SAMPLE_DRAIN_SECONDS=4 trinode/httpbackend:v1.0.0"
        )
        self.endpoint = f"{node.address}:{node.run(f'docker port {self.name} 8081/tcp').splitlines()[0].rpartition(':')[2]}"

    def wait_until_served(self, served: bool) -> None:
        """Until both edges send requests to it, or no more."""
        for edge in lab.EDGES:
            lab.wait_for(
                lambda edge=edge: (f"server {self.endpoint} " in lab.run(edge, "nginx -T 2>/dev/null")) is served,
                60,
                f"{edge} {'serves' if served else 'has let go of'} {self.name} at {self.endpoint}",
                lambda edge=edge: lab.run(edge, "nginx-edge-apply --status", check=False) + lab.journal(edge, "consul-template", "registrator"),
            )


def drain_and_kill(instance: Instance) -> None:
    """By hand: when it is out of the edges, even a kill harms nobody."""
    instance.node.run(f"registrator drain {instance.name}")
    instance.wait_until_served(False)
    instance.node.run(f"docker rm -f {instance.name}")


def stop(instance: Instance) -> None:
    """By `docker stop` alone: the service answers on for some seconds after its stop signal."""
    instance.node.run(f"docker stop -t 20 {instance.name} && docker rm {instance.name}")
    instance.wait_until_served(False)


@pytest.fixture(name="sample_nodes")
def fixture_sample_nodes() -> t.Iterator[list[Node]]:
    nodes = [Node(name, "roll-") for name in lab.NODES]
    for node in nodes:
        traffic.load_samples(node.name)
        node.clean()
    yield nodes
    for node in nodes:
        node.clean()


@pytest.mark.parametrize("take_out", [drain_and_kill, stop])
def test_no_request_fails_while_a_service_is_replaced(sample_nodes: list[Node], take_out: t.Callable[[Instance], None]) -> None:
    old = [Instance(node, "v1") for node in sample_nodes]
    for instance in old:
        instance.wait_until_served(True)
    load = traffic.Load(traffic.targets(SERVICE), seconds=180, requests=180 * traffic.RATE // traffic.WORKERS)
    load.start()
    try:
        for instance in old:
            Instance(instance.node, "v2").wait_until_served(True)
            take_out(instance)
        seconds = load.elapsed()
    finally:
        load.stop()
    requests = sum(result["requests"] for result in load.results.values())
    failed = sum(result["failed"] for result in load.results.values())
    print(f"{requests} requests in {seconds:.0f} s, {failed} failed, slowest {max(result['slowest'] for result in load.results.values())} s")
    assert failed == 0, json.dumps(load.results, indent=1)
    # A quarter of the rate, because the load shares the machine with the nodes.
    assert requests > max(100, traffic.RATE * seconds / 4), "there was no load to speak of"
    assert {node.run("docker ps --format '{{.Names}}' --filter name=^roll-") for node in sample_nodes} == {"roll-v2"}
