# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Docker host needs, and what the platform's settings do to an engine in use. Private to the collection, pure."""

from __future__ import annotations

import ipaddress
import itertools
import re
import typing as t
from collections.abc import Iterator, Mapping, Sequence

from ...module_utils._docker.engines import engine_fault
from ...module_utils._host.ports import Node
from .inventory_rules import Problem

# overlay2, the storage of every present engine, needs this.
MIN_KERNEL = (4, 0)

_FEATURES = {
    "overlay": "the overlay file system, on which Docker keeps its images",
    "bridge": "network bridges, which join the containers of a host",
    "veth": "virtual Ethernet pairs, through which a container has its network",
    "nat": "address translation, through which ports are published",
}
# The networks from which Docker takes the first free one for its default bridge.
_POOLS = [ipaddress.ip_network(f"172.{number}.0.0/16") for number in range(17, 32)]
_SHOWN_CONTAINERS = 5
# Networks of a pool that are looked at; a pool may have millions.
_LOOKED_AT = 1024

_Networks = Sequence[t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]]


def docker_problems(node: Node, facts: Mapping[str, t.Any], others: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what a Docker host lacks.

    Args:
        node: the host.
        facts: its state.
        others: what must stay reachable from its containers and from itself: addresses, and what each of them is.
    """
    if node.docker:
        yield from _kernel_problems(node, facts)
        yield from _engine_problems(node, facts["docker"])
        yield from _network_problems(node, facts, others)


def _kernel_problems(node: Node, facts: Mapping[str, t.Any]) -> Iterator[Problem]:
    if numbers(facts["kernel"]) < MIN_KERNEL:
        yield Problem(node.host, "kernel", f"{node.shown}: the kernel {facts['kernel']} is too old for containers", "boot a kernel of 4.0 or later")
    for name, text in _FEATURES.items():
        if facts["features"].get(name) is False:
            yield Problem(
                node.host,
                "kernel",
                f"{node.shown}: the kernel {facts['kernel']} lacks {text}",
                "boot the distribution's own kernel, or install the package of its modules (linux-modules-extra on Ubuntu)",
            )
    if facts["cgroups"] is None:
        yield Problem(
            node.host,
            "kernel",
            f"{node.shown} has no control groups mounted, without which no container starts",
            "mount /sys/fs/cgroup as the distribution does at boot",
        )
    if facts["proc_sys_read_only"]:
        yield Problem(
            node.host,
            "kernel",
            f"{node.shown} has /proc/sys mounted read-only, so that Docker cannot set up its network",
            "run: mount -o remount,rw /proc/sys",
        )


def _engine_problems(node: Node, docker: Mapping[str, t.Any]) -> Iterator[Problem]:
    for engine in docker.get("engines") or ():
        # Next to a running docker.service, such an engine does no harm.
        if docker.get("active") != "active":
            fact, remedy = engine_fault(engine)
            yield Problem(node.host, "docker", f"{node.shown}: {fact}", remedy)
    if docker.get("load") in ("masked", "bad-setting", "error"):
        yield Problem(
            node.host,
            "docker",
            f"{node.shown}: docker.service is {'masked' if docker['load'] == 'masked' else 'not readable by systemd'}",
            "run: systemctl unmask docker" if docker["load"] == "masked" else "see: systemctl status docker",
        )
    elif docker.get("active") == "failed":
        yield Problem(
            node.host,
            "docker",
            f"{node.shown}: Docker is not answering: docker.service has failed ({docker['result']})",
            "see: journalctl -u docker; then run: systemctl restart docker",
        )
    elif docker.get("reason"):
        yield Problem(
            node.host,
            "docker",
            f"{node.shown}: Docker is not answering although docker.service is {docker['active']}: {docker['reason']}",
            "see: journalctl -u docker; then run: systemctl restart docker",
        )


def docker_warnings(node: Node, facts: Mapping[str, t.Any]) -> Iterator[Problem]:
    """Yield what works, and hurts somebody."""
    if not node.docker:
        return
    docker = facts["docker"]
    if docker.get("load") == "loaded" and docker.get("active") == "inactive" and not docker.get("engines"):
        yield Problem(node.host, "docker", f"{node.shown}: docker.service is stopped", "this run starts it")
    if docker.get("active") == "active":
        for engine in docker.get("engines") or ():
            fact, remedy = engine_fault(engine)
            yield Problem(node.host, "docker", f"{node.shown}: beside docker.service, {fact}", remedy)
    yield from _restart_warnings(node, docker)
    address = str({**(docker.get("settings") or {}), **(docker.get("wanted") or {})}.get("ip") or "")
    if address and address not in (node.address, "0.0.0.0", "::"):
        yield Problem(
            node.host,
            "docker_network",
            f"{node.shown}: Docker publishes the ports of containers at {address} only (ip in {docker.get('config_file')}),"
            " and that is where they are registered",
            f"see that all hosts and edges reach {address}, or remove ip there, or publish with -p {node.address}:PORT:PORT",
        )


def _restart_warnings(node: Node, docker: Mapping[str, t.Any]) -> Iterator[Problem]:
    """Yield the running containers that the restart of the engine stops, when this run has a reason to restart it."""
    containers = docker.get("containers") or ()
    # The member of a swarm does not get live-restore, so that alone is no change.
    changes = {*(docker.get("changes") or ())} - ({"live-restore"} if docker.get("swarm") else set())
    if not containers or not changes:
        return
    if docker.get("swarm"):
        why, remedy = "is a member of a swarm, with which Docker refuses live-restore", "docker node update --availability drain, on a manager"
    elif not (docker.get("wanted") or {}).get("live-restore") and not docker.get("live_restore"):
        why, remedy = "is not to have live-restore", "set docker_daemon_dns_live_restore: true"
    else:
        return
    more = len(containers) - _SHOWN_CONTAINERS
    names = ", ".join([*containers[:_SHOWN_CONTAINERS], *([f"{more} more"] if more > 0 else [])])
    yield Problem(
        node.host,
        "docker",
        f"{node.shown}: this run restarts Docker for {' and '.join(sorted(changes))} in {docker.get('config_file')}"
        f" and stops {len(containers)} running container{'s' if len(containers) > 1 else ''} ({names}),"
        f" because the host {why}",
        f"run it at a quiet time, or prevent this ({remedy}); containers with a restart policy start again by themselves",
    )


# --- networks ---------------------------------------------------------------------------------------------------------


def parse_network(text: t.Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return the network of an address with its prefix; None when it is not one."""
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return None


def bridge_network(settings: Mapping[str, t.Any], routes: _Networks) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return the network that a new engine gives its default bridge: the one that is set, or the first of its pools that no route of the host overlaps."""
    if settings.get("bip"):
        return parse_network(settings["bip"])
    candidates: list[t.Any] = []
    for pool in settings.get("default-address-pools") or ():
        base = parse_network(pool.get("base")) if isinstance(pool, Mapping) else None
        size = int(pool.get("size") or 0) if base else 0
        if base and base.prefixlen <= size <= base.max_prefixlen:
            candidates += list(itertools.islice(base.subnets(new_prefix=size), _LOOKED_AT))
    return next((one for one in candidates or _POOLS if not any(_overlap(one, route) for route in routes)), None)


def _overlap(one: t.Any, other: t.Any) -> bool:
    return bool(one.version == other.version and one.overlaps(other))


def _docker_networks(facts: Mapping[str, t.Any]) -> list[tuple[str, t.Any]]:
    """Return the networks that the engine has, or will have when it is not there yet."""
    docker = facts["docker"]
    if docker.get("networks") is not None:
        return [(str(one["name"]), network) for one in docker["networks"] if (network := parse_network(one["subnet"]))]
    routes = [network for route in facts.get("routes") or () if (network := parse_network(route))]
    network = bridge_network({**(docker.get("settings") or {}), **(docker.get("wanted") or {})}, routes)
    return [("bridge", network)] if network else []


def _network_problems(node: Node, facts: Mapping[str, t.Any], others: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the networks of containers that hide addresses of the site."""
    networks = _docker_networks(facts)
    # A new bridge would also cut off those who are connected now, the control node among them.
    callers = {} if facts["docker"].get("networks") is not None else dict.fromkeys(facts.get("callers") or (), "who is connected now")
    servers = dict.fromkeys(facts.get("dns") or (), "a name server of the host")
    for name, network in networks:
        hidden = [
            f"{address} ({what})"
            for address, what in {**callers, **servers, **others}.items()
            if (parsed := parse_network(address)) and address not in facts["addresses"] and _overlap(network, parsed)
        ]
        if hidden:
            yield Problem(
                node.host,
                "docker_network",
                f"{node.shown}: Docker's network {name} ({network}) covers {' and '.join(hidden)}, so that nothing there is reached from this host",
                "give docker_daemon_dns_daemon_options a network that the site does not use, such as {bip: 10.200.0.1/24}, and"
                " default-address-pools; an engine in use takes it when it starts without running containers"
                if name == "bridge"
                else f"make it anew with a network that the site does not use (docker network rm {name})",
            )


def numbers(text: str) -> tuple[int, ...]:
    """Return the first three numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
