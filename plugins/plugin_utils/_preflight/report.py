# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the nodes told to one list of problems. Private to the collection, pure but for the mirror's directory."""

from __future__ import annotations

import ipaddress
import os
import typing as t
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...module_utils._host import artifact
from ...module_utils._host.ports import Node, Port, find_node, wanted_paths
from .._certificates.tls import Checked
from .._edge.schema import EdgeError, check_edge
from .connection import connection_problems, failure
from .docker import docker_problems, docker_warnings, numbers
from .inventory_rules import (
    Names,
    Problem,
    inventory_problems,
    inventory_warnings,
)

MIN_PYTHON = (3, 9)

# Releases that are accepted although their distribution makes no security updates for them any more, and since when.
_SUPPORT_ENDED = {("debian", "11"): "2026-08-31"}
# Holders that are met often, and what to do about them.
_REMEDIES = {
    "systemd-resolve": "remove its DNSStubListenerExtra setting from /etc/systemd/resolved.conf",
    "dnsmasq": "stop it (systemctl disable --now dnsmasq) or keep it off these addresses (bind-interfaces, except-interface=lo)",
    "named": "stop it (systemctl disable --now named) or take these addresses out of its listen-on",
    "unbound": "stop it (systemctl disable --now unbound) or take these addresses out of its interface settings",
}


@dataclass(frozen=True)
class Settings:
    """Everything that is asked of the nodes."""

    names: Names
    platforms: Mapping[str, Sequence[str]]
    clock_skew_max: float = 5.0
    memory_min_mb: int = 900
    disk_min_mb: int = 2048
    artifacts: Sequence[Mapping[str, t.Any]] = ()
    mirror: str = ""
    tolerated: Sequence[str] = ()
    # The edge description, if there is one, and what was found about the certificates.
    edge: Mapping[str, t.Any] = field(default_factory=dict)
    certificates: Checked = field(default_factory=Checked)


@dataclass
class Host:
    """What one host of the play told: the results of the role's tasks, a failed one with its `msg`."""

    variables: Mapping[str, t.Any] = field(default_factory=dict)
    facts: Mapping[str, t.Any] = field(default_factory=dict)
    listener: Mapping[str, t.Any] = field(default_factory=dict)
    probe: Mapping[str, t.Any] = field(default_factory=dict)
    stop: Mapping[str, t.Any] = field(default_factory=dict)


@dataclass
class Report:
    """The outcome."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    paths: int = 0


def _words(items: Sequence[str]) -> str:
    return " and ".join(", ".join(items).rsplit(", ", 1))


# --- one host ---------------------------------------------------------------------------------------------------------


def variable_problems(hosts: Mapping[str, Host]) -> list[Problem]:
    """Mistyped variables. One that a group has is told once for all its hosts."""
    joined: dict[tuple[str, str, str], list[str]] = {}
    for name, host in hosts.items():
        for one in host.variables.get("problems") or ():
            joined.setdefault((one["check"], one["message"], one["remedy"]), []).append(name)
    return [Problem(names[0], check, f"{_words(names)}: {message}", remedy) for (check, message, remedy), names in joined.items()]


def system_problems(node: Node, facts: Mapping[str, t.Any], settings: Settings) -> Iterator[Problem]:
    """Operating system, machine, addresses."""
    supported = settings.platforms.get(facts["distribution"], ())
    if facts["version"] not in [str(version) for version in supported]:
        known = "; ".join(f"{name} {', '.join(map(str, versions))}" for name, versions in sorted(settings.platforms.items()))
        yield Problem(
            node.host,
            "platform",
            f"{node.shown} runs {facts['name']} ({facts['distribution']} {facts['version'] or 'without a version'}), which is not supported",
            f"use one of {known}, or add yours to preflight_supported_platforms at your own risk",
        )
    if artifact.ARCHITECTURES.get(facts["architecture"].lower()) not in ("amd64", "arm64"):
        yield Problem(
            node.host,
            "architecture",
            f"{node.shown} has the unknown architecture {facts['architecture']!r}",
            "use an x86_64 or an aarch64 machine",
        )
    if numbers(facts["python"]) < MIN_PYTHON:
        yield Problem(
            node.host,
            "python",
            f"{node.shown} is worked on by Python {facts['python']}",
            "let ansible_python_interpreter name Python 3.9 or later",
        )
    if not facts["root"]:
        yield Problem(node.host, "root", f"{node.shown}: Ansible is not root there", "set become: true and let ansible_user use sudo")
    if not facts["systemd"]:
        yield Problem(node.host, "systemd", f"{node.shown} was not started by systemd, which runs all services here", "use a system that boots with systemd")
    if _is_address(node.address) and str(ipaddress.ip_address(node.address)) not in facts["addresses"]:
        own = [address for address in facts["addresses"] if not ipaddress.ip_address(address).is_loopback and not ipaddress.ip_address(address).is_link_local]
        yield Problem(
            node.host,
            "address",
            f"{node.host}: the platform_address {node.address} is not on the host, which has {_words(own) or 'no address but loopback'}",
            "correct platform_address, or ansible_host if this is another machine",
        )


def support_warnings(hosts: Sequence[tuple[Node, Mapping[str, t.Any]]]) -> Iterator[Problem]:
    """Releases that get no security updates any more, each told once for all its hosts."""
    joined: dict[tuple[str, str], list[tuple[Node, str]]] = {}
    for node, facts in hosts:
        joined.setdefault((facts["distribution"], facts["version"]), []).append((node, facts["name"]))
    for release, found in joined.items():
        if release in _SUPPORT_ENDED:
            names = [node.host for node, _name in found]
            yield Problem(
                names[0],
                "platform",
                f"{_words(names)} run{'s' if len(names) == 1 else ''} {found[0][1]}, which has had no security updates since {_SUPPORT_ENDED[release]}",
                "upgrade to a later release",
            )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def consul_problems(node: Node, facts: Mapping[str, t.Any]) -> Iterator[Problem]:
    """Yield what another installation of Consul left on the host."""
    consul = facts.get("consul") or {}
    if consul.get("unit"):
        yield Problem(
            node.host,
            "consul",
            f"{node.shown}: {consul['unit']} runs a Consul of another installation",
            "end it (systemctl disable --now consul), remove its unit or its package, and move its data away",
        )
    if consul.get("files"):
        yield Problem(
            node.host,
            "consul",
            f"{node.shown}: {_words(consul['files'])} {'is' if len(consul['files']) == 1 else 'are'} not of this platform, whose agent does not read"
            f" {'it' if len(consul['files']) == 1 else 'them'}",
            "move what is to stay into consul_server_extra_config, and the file away",
        )


def _others(node: Node, nodes: Sequence[Node], settings: Settings) -> dict[str, str]:
    """Return the addresses that a host must reach, and what each of them is."""
    recursors = dict.fromkeys(settings.names.recursors, "a recursor")
    return {**recursors, **{other.address: other.host for other in nodes if other != node and _is_address(other.address)}}


def port_problem(node: Node, conflict: Mapping[str, t.Any]) -> Problem:
    """A port that somebody else holds."""
    where = f"[{conflict['address']}]" if ":" in conflict["address"] else conflict["address"]
    port, process, unit = conflict["port"], conflict["process"], conflict["unit"]
    if process:
        about = [f"pid {conflict['pid']}", f"user {conflict['user']}"]
        about += [unit] if unit else []
        about += [f"container {conflict['container'][:12]}"] if conflict["container"] else []
        holder = f"{process} ({', '.join(about)})"
    else:
        holder = "no process that can be seen (the kernel, or another network namespace)"
    if process in _REMEDIES:
        remedy = _REMEDIES[process]
    elif process == "docker-proxy":
        remedy = f"remove the container that publishes it (docker ps --filter publish={port})"
    elif conflict["container"]:
        remedy = f"remove the container (docker rm -f {conflict['container'][:12]}) or give it another port"
    elif unit.endswith(".service"):
        remedy = f"stop it (systemctl disable --now {unit.removesuffix('.service')}) or give it another port"
    elif process == "systemd":
        remedy = "find its socket unit (systemctl list-sockets) and disable that"
    elif process:
        remedy = f"end it (kill {conflict['pid']}) or give it another port"
    else:
        remedy = "find what opened it, and free the port"
    return Problem(
        node.host,
        "port",
        f"{node.shown}: port {port}/{conflict['protocol']} at {where} is held by {holder}, but {conflict['purpose']} needs it",
        remedy,
    )


def resource_warnings(node: Node, facts: Mapping[str, t.Any], settings: Settings) -> Iterator[Problem]:
    """What may become a problem."""
    if 0 < facts["memory_mb"] < settings.memory_min_mb:
        yield Problem(node.host, "memory", f"{node.shown} has {facts['memory_mb']} MB of memory", f"give it {settings.memory_min_mb} MB or more")
    for path, free in sorted(facts["free_mb"].items()):
        if free < settings.disk_min_mb:
            yield Problem(node.host, "disk", f"{node.shown} has {free} MB free for {path}", f"make it {settings.disk_min_mb} MB or more")
    if not facts["dns"]:
        yield Problem(node.host, "dns", f"{node.shown} has no name server in /etc/resolv.conf", "without one, only the platform's own names can be resolved")
    if node.docker and facts["cgroups"] and "memory" not in facts["cgroups"]:
        yield Problem(
            node.host,
            "kernel",
            f"{node.shown} has no memory control group, so that memory limits of containers are ignored",
            "boot with cgroup_enable=memory",
        )


# --- artifacts --------------------------------------------------------------------------------------------------------


def artifact_problems(hosts: Sequence[tuple[Node, Mapping[str, t.Any]]], mirror: str) -> Iterator[Problem]:
    """Releases that a node needs and cannot get. A local mirror is looked at once for each archive, checksum included."""
    faults: dict[tuple[str, str, str], tuple[str, list[Node]]] = {}
    for node, result in hosts:
        architecture = artifact.ARCHITECTURES.get(str(result["facts"]["architecture"]).lower(), "")
        for state in result.get("artifacts") or ():
            if state["installed"] or not architecture:
                continue
            if state["url"]:
                if state["reason"]:
                    yield Problem(
                        node.host,
                        "artifact",
                        f"{node.shown} does not get {state['product']} {state['version']} from {state['url']}: {state['reason']}",
                        "open the way there, correct the version, or fill a mirror (make artifacts) and name it in platform_artifact_mirror",
                    )
                continue
            key = (state["product"], state["version"], architecture)
            if key not in faults:
                faults[key] = (archive_fault(mirror, *key), [])
            faults[key][1].append(node)
    for (product, version, _architecture), (fault, nodes) in faults.items():
        if fault:
            message, _separator, remedy = fault.partition("; ")
            who = _words([node.host for node in nodes])
            yield Problem(
                nodes[0].host,
                "artifact",
                f"{who} need{'s' if len(nodes) == 1 else ''} {product} {version}, but {message}",
                remedy or "fill the mirror (make artifacts) or correct platform_artifact_mirror",
            )


def archive_fault(mirror: str, product: str, version: str, architecture: str) -> str:
    """What is wrong with an archive in a mirror that is a directory; empty when nothing is."""
    try:
        artifact.check_names(product, version)
        if not os.path.isabs(mirror):
            return f"the mirror {mirror!r} is neither a URL nor an absolute directory on the control node; correct platform_artifact_mirror"
        directory = os.path.join(mirror, artifact.release_directory(product, version))
        listing = os.path.join(directory, artifact.checksums_name(product, version))
        archive = artifact.archive_name(product, version, architecture)
        with open(listing, encoding="utf-8", errors="replace") as file:
            checksum = artifact.expected_checksum(file.read(), listing, archive)
        artifact.check_archive(os.path.join(directory, archive), checksum)
    except FileNotFoundError as error:
        return f"{error.filename} is missing on the control node; fill the mirror (make artifacts) or correct platform_artifact_mirror"
    except OSError as error:
        return f"{error.filename or mirror} on the control node cannot be read ({error.strerror}); correct this"
    except artifact.ArtifactError as error:
        return str(error)
    return ""


# --- between hosts ----------------------------------------------------------------------------------------------------


def _range(port: int, protocol: str, sample: bool) -> str:
    return f"{port}/{protocol} (a free port, as Docker publishes them)" if sample else f"{port}/{protocol}"


def path_problems(node: Node, nodes: Sequence[Node], probes: Sequence[Mapping[str, t.Any]], seen: Callable[..., bool]) -> Iterator[Problem]:
    """Blocked paths from one node, joined by peer and reason."""
    joined: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for probe in probes:
        if probe["ok"] or (probe["sample"] and not probe["purpose"]):
            continue
        reason = probe["reason"]
        if seen(probe["peer"], node.host, probe["port"], probe["protocol"]):
            reason += ", although the question arrived there: its answer is dropped"
        joined.setdefault((probe["peer"], reason), []).append((_range(probe["port"], probe["protocol"], probe["sample"]), probe["purpose"]))
    for (name, reason), ports in joined.items():
        peer = find_node(nodes, name)
        purposes = list(dict.fromkeys(purpose for _port, purpose in ports))
        yield Problem(
            node.host,
            "path",
            f"{node.shown} cannot reach {peer.shown if peer else name} on {_words([port for port, _purpose in ports])} ({_words(purposes)}): {reason}",
            "allow it in the firewalls of both hosts and between them",
        )


def clock_problems(nodes: Sequence[Node], probes: Mapping[str, Sequence[Mapping[str, t.Any]]], limit: float) -> list[Problem]:
    """Pairs of nodes whose clocks differ, each once, named under the node that differs from most."""
    worst: dict[frozenset[str], tuple[float, str, str]] = {}
    for name, results in probes.items():
        for probe in results:
            if "offset" not in probe:
                continue
            # Within the round trip nobody can say more.
            surely = max(0.0, abs(probe["offset"]) - probe["rtt"] / 2)
            pair = frozenset((name, probe["peer"]))
            if surely > limit and surely > abs(worst.get(pair, (0.0, "", ""))[0]):
                ahead = probe["peer"] if probe["offset"] > 0 else name
                behind = name if probe["offset"] > 0 else probe["peer"]
                worst[pair] = (surely, ahead, behind)
    count: dict[str, int] = {}
    for pair in worst:
        for name in pair:
            count[name] = count.get(name, 0) + 1
    known = {node.host: node for node in nodes}
    order = list(known)
    found = []
    for seconds, ahead, behind in sorted(worst.values(), key=lambda one: (order.index(one[1]), order.index(one[2]))):
        culprit = max((ahead, behind), key=lambda name: (count[name], -order.index(name)))
        found.append(
            Problem(
                known[culprit].host,
                "clock",
                f"the clocks of {known[ahead].shown} and {known[behind].shown} differ by {seconds:.1f} s: {known[ahead].host} is ahead",
                "let NTP set them (timedatectl set-ntp true, or chrony) and compare with: timedatectl",
            )
        )
    return found


# --- the edge ---------------------------------------------------------------------------------------------------------


def edge_problems(edge: Mapping[str, t.Any]) -> Iterator[Problem]:
    """What is wrong with the edge description."""
    if edge:
        try:
            check_edge(edge)
        except EdgeError as error:
            for text in error.errors:
                yield Problem("", "edge", f"the edge description is wrong: {text}", "correct platform_edge")


def certificate_problems(checked: Checked) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings."""
    errors, warnings = ([Problem("", "certificate", one.message, one.remedy) for one in findings] for findings in (checked.errors, checked.warnings))
    return errors, warnings


# --- the report -------------------------------------------------------------------------------------------------------


def make_report(nodes: Sequence[Node], ports: Sequence[Port], hosts: Mapping[str, Host], settings: Settings) -> Report:
    """Judge everything.

    Args:
        nodes: all nodes of the platform.
        ports: the port table.
        hosts: what the hosts of this play told, by inventory name.
        settings: what is asked of them.
    """
    report = Report()
    found: list[Problem] = inventory_problems(nodes, settings.names) + variable_problems(hosts)
    report.warnings = inventory_warnings(nodes, settings.names)
    present: list[tuple[Node, Host]] = []
    for name, host in hosts.items():
        node = find_node(nodes, name)
        if node is None:
            found.append(
                Problem(name, "duties", f"{name} takes part in the play but is no node of the platform", "put it into a group, or leave it out of the play")
            )
            continue
        if not host.facts.get("facts"):
            report.unchecked.append(name)
            continue
        present.append((node, host))
        facts = host.facts["facts"]
        found += system_problems(node, facts, settings)
        found += consul_problems(node, facts)
        found += docker_problems(node, facts, _others(node, nodes, settings))
        found += [port_problem(node, conflict) for conflict in host.facts.get("conflicts") or ()]
        report.warnings += [*resource_warnings(node, facts, settings), *docker_warnings(node, facts)]
    found += connection_problems({name: host.facts for name, host in hosts.items() if name in report.unchecked})
    report.warnings += support_warnings([(node, host.facts["facts"]) for node, host in present])
    found += artifact_problems([(node, host.facts) for node, host in present], settings.mirror)
    found += _mesh_problems(report, nodes, ports, present, settings)
    errors, warnings = certificate_problems(settings.certificates)
    found += [*edge_problems(settings.edge), *errors]
    report.warnings += warnings
    report.unchecked += [node.host for node in nodes if node.host not in hosts]
    # Problems of the platform first, then by host in the order of the inventory.
    order = {host: number for number, host in enumerate(["", *(node.host for node in nodes), *hosts])}
    for one in sorted(dict.fromkeys(found), key=lambda one: order.get(one.host, len(order))):
        (report.warnings if one.check in settings.tolerated else report.problems).append(one)
    return report


def _mesh_problems(report: Report, nodes: Sequence[Node], ports: Sequence[Port], present: Sequence[tuple[Node, Host]], settings: Settings) -> Iterator[Problem]:
    arrived = {(node.host, one["node"], one["port"], one["protocol"]) for node, host in present for one in host.stop.get("seen") or ()}
    results = {node.host: host.probe.get("results") or () for node, host in present}
    for node, host in present:
        if not host.listener.get("token"):
            alone = not any(wanted_paths(node, peer, ports) for peer in nodes) and len(nodes) < 2
            if not alone and node.address in host.facts["facts"]["addresses"]:
                yield Problem(
                    node.host,
                    "path",
                    f"{node.shown}: the paths to it cannot be tried: {failure(host.listener)}",
                    "correct this and run again",
                )
        elif not host.stop.get("stopped", True):
            yield Problem(
                node.host,
                "path",
                f"{node.shown}: the listener of this check (process {host.listener.get('pid')}) does not end: {host.stop.get('msg')}",
                "it ends by itself within a minute",
            )
        if host.listener.get("token") and "results" not in host.probe:
            yield Problem(node.host, "path", f"{node.shown}: the paths from it cannot be tried: {failure(host.probe)}", "correct this and run again")
        yield from path_problems(node, nodes, results[node.host], lambda *key: key in arrived)
        report.paths += len(results[node.host])
    yield from clock_problems(nodes, results, settings.clock_skew_max)


def sentence(report: Report, count: int) -> str:
    """The text that the operator reads."""
    lines = []
    if report.problems:
        number = len(report.problems)
        lines.append(f"Preflight found {number} problem{'' if number == 1 else 's'}. Nothing was changed on any host.")
        lines += [f"{number}. {problem}" for number, problem in enumerate(report.problems, start=1)]
    else:
        lines.append(f"Preflight found no problem: {count} host{'' if count == 1 else 's'} and {report.paths} paths between them are ready.")
    if report.unchecked:
        lines.append(f"Not checked, because no part of this run or not reached: {', '.join(report.unchecked)}.")
    return "\n".join(lines)
