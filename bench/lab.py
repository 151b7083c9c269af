# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three nodes: where they are, how to run something on them, and the proof that an address is one of them before any load goes there."""

from __future__ import annotations

import json
import subprocess
import time
import typing as t
from pathlib import Path

NODE_NAMES = ("consul-1", "consul-2", "consul-3")
FIRST_HOST = 129
# The domain of inventories/demo, which the nodes are made from.
EDGE_DOMAIN = "apps.demo.example"
PROGRAMS = Path(__file__).resolve().parent / "node"

T = t.TypeVar("T")


class LabError(Exception):
    """The nodes are not as they must be. One sentence, with the remedy where there is one."""


def docker(*arguments: str, data: bytes | None = None, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run the Docker client of this machine."""
    try:
        done = subprocess.run(
            ["docker", *arguments],
            input=data,
            stdin=None if data is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError("there is no docker client on this machine: run 'make setup'") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"docker {' '.join(arguments)[:200]} did not end within {timeout:g} s") from error
    if check and done.returncode != 0:
        words = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-800:]
        raise LabError(f"docker {' '.join(arguments)[:200]} ended with status {done.returncode}: {words}")
    return done


class Node(t.NamedTuple):
    """One node: a container of this machine that acts as a server."""

    name: str
    container: str
    ident: str
    address: str

    def run(self, command: str, data: bytes | None = None, timeout: float = 60, check: bool = True) -> str:
        """Run a shell command on the node; gives what it printed on its standard output."""
        extra = ["-i"] if data is not None else []
        done = docker("exec", *extra, self.container, "sh", "-c", command, data=data, timeout=timeout, check=check)
        return done.stdout.decode("utf-8", "replace").strip()

    def put(self, path: str, text: str, mode: str = "0644") -> None:
        """Write a file, with its directory."""
        self.run(f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode} {path}", data=text.encode())

    def program(self, name: str, *arguments: str, timeout: float = 60) -> t.Any:
        """Run a program of bench/node on the node; gives the JSON document that it printed."""
        source = (PROGRAMS / name).read_bytes()
        done = docker("exec", "-i", self.container, "python3", "-", *arguments, data=source, timeout=timeout)
        return json.loads(done.stdout)


class Endpoint(t.NamedTuple):
    """A port of a node. Whatever sends load takes endpoints and nothing else."""

    node: Node
    port: int


def identities(inspected: t.Sequence[t.Mapping[str, t.Any]], network: str) -> dict[str, tuple[str, str, bool]]:
    """Container -> (id, address in the network, runs), from what ``docker inspect`` printed."""
    found = {}
    for entry in inspected:
        address = str((entry["NetworkSettings"]["Networks"].get(network) or {}).get("IPAddress") or "")
        found[str(entry["Name"]).lstrip("/")] = (str(entry["Id"]), address, bool(entry["State"]["Running"]))
    return found


class Lab:
    """The nodes of one run. The containers' ids are fixed at the beginning: another container under the same name is somebody else."""

    def __init__(self, name: str, nodes: t.Sequence[Node]) -> None:
        self.name = name
        self.nodes = tuple(nodes)
        self.edges = self.nodes[:2]

    @classmethod
    def find(cls, name: str, network: str) -> Lab:
        """The running nodes of that name.

        Args:
            name: first part of the containers' names, and the name of their network.
            network: the first three numbers of their network.
        """
        containers = [f"{name}-{node}" for node in NODE_NAMES]
        done = docker("inspect", *containers, check=False)
        known = identities(json.loads(done.stdout or b"[]"), name)
        nodes = []
        for number, (node, container) in enumerate(zip(NODE_NAMES, containers)):
            wanted = f"{network}.{FIRST_HOST + number}"
            ident, address, runs = known.get(container, ("", "", False))
            if not runs:
                raise LabError(f"there is no running container {container}: 'make bench' makes the nodes, or name others with LAB_NAME and LAB_NETWORK")
            if address != wanted:
                raise LabError(f"container {container} has the address {address or '(none)'} in network {name}, not {wanted}: set LAB_NETWORK to its network")
            nodes.append(Node(node, container, ident, wanted))
        return cls(name, nodes)

    def confirm(self, endpoints: t.Iterable[Endpoint]) -> None:
        """See that every endpoint is a running container of this run. Without the network, packets to its address would leave this machine.

        Raises:
            LabError: one is not.
        """
        wanted = {endpoint.node for endpoint in endpoints}
        if not wanted:
            raise LabError("a load without a single endpoint")
        done = docker("inspect", *sorted(node.container for node in wanted), check=False)
        known = identities(json.loads(done.stdout or b"[]"), self.name)
        for node in wanted:
            if known.get(node.container) != (node.ident, node.address, True):
                raise LabError(f"{node.address} is not the running container {node.container} of this run any more: nothing is sent there")

    def each(self, nodes: t.Iterable[Node], command: str, timeout: float = 60, check: bool = True) -> list[str]:
        """Run a command on several nodes, one after the other."""
        return [node.run(command, timeout=timeout, check=check) for node in nodes]


def wait_for(look: t.Callable[[], T], seconds: float, what: str, pause: float = 0.1) -> T:
    """Look until the answer is true.

    Raises:
        LabError: it was not within the time; says what was seen last.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise LabError(f"{what}: not so within {seconds:g} s; last seen: {answer!r}")
        time.sleep(pause)


def undo(*steps: t.Callable[[], object]) -> None:
    """Take every step of a way out, also after one that failed.

    Raises:
        LabError: one did; what the first had to say.
    """
    errors = []
    for step in steps:
        try:
            step()
        except LabError as error:
            errors.append(error)
    if errors:
        raise errors[0]


class Started(t.NamedTuple):
    """An instance that was started on a node. Times are Unix times of the one clock that all containers share."""

    node: Node
    ident: str
    command_at: float
    returned_at: float


class Instance(t.NamedTuple):
    """What Docker says of a running instance."""

    started_at: float
    port: int


LABEL = "trinode.bench"


def parse_docker_time(text: str) -> float:
    """Docker's time with nanoseconds as Unix time."""
    from datetime import datetime, timezone

    seconds, _, fraction = text.rstrip("Z").partition(".")
    moment = datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return moment.timestamp() + float(f"0.{fraction or 0}")


def start_instance(node: Node, name: str, image: str, labels: t.Mapping[str, str], publish: bool = True) -> Started:
    """``docker run`` on a node, as a user types it, with the times before and after."""
    words = " ".join(f"--label {key}={value}" for key, value in {**labels, LABEL: "1"}.items())
    command = (
        f"date +%s.%N; docker run -d --name {name} --hostname {name} {'-P' if publish else ''} {words} {image} >/dev/null; status=$?; date +%s.%N; exit $status"
    )
    before, after = node.run(command, timeout=120).split()
    return Started(node, name, float(before), float(after))


def look_at_instance(node: Node, name: str) -> Instance:
    """When an instance started, and its first published port (0: none)."""
    found = json.loads(node.run(f"docker inspect {name}"))[0]
    bindings = [binding for port in (found["NetworkSettings"]["Ports"] or {}).values() for binding in port or []]
    return Instance(parse_docker_time(found["State"]["StartedAt"]), int(bindings[0]["HostPort"]) if bindings else 0)


def remove_instance(node: Node, name: str) -> tuple[float, float]:
    """``docker rm -f`` on a node; gives the times before and after."""
    before, after = node.run(f"date +%s.%N; docker rm -f -v {name} >/dev/null; status=$?; date +%s.%N; exit $status", timeout=120).split()
    return float(before), float(after)


def remove_instances(nodes: t.Iterable[Node]) -> None:
    """Remove every instance that a benchmark started."""
    for node in nodes:
        node.run(f"docker ps -aq --filter label={LABEL} | xargs -r docker rm -f -v >/dev/null", timeout=900)
