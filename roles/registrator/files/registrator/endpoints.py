# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each port of a container can be reached. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from registrator.attributes import Attributes, Notices
from registrator.model import Binding, Facts, Settings
from registrator.secrecy import shown


@dataclass(frozen=True)
class Endpoint:
    """Where one port of the container can be reached; the first endpoint of a port keeps registrator's id."""

    address: str
    port: int
    suffix: str = ""


def _is_wildcard(address: str) -> bool:
    return address in ("", "0.0.0.0", "::")  # compared, not bound


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None


def _version(settings: Settings) -> int:
    own = _parse(settings.address)
    return own.version if own is not None else 4


def effective_facts(facts: Facts, owner: Facts | None, named: Iterable[tuple[int, str]]) -> Facts:
    """Return the facts of a container that shares another one's network: the ports are published by the owner.

    It has those that its own image exposes, and those that its labels name.
    """
    if not facts.network_owner or owner is None:
        return facts
    published = {(binding.port, binding.protocol) for binding in owner.bindings}
    wanted = set(facts.exposed) | (set(named) & published)
    values = dict(vars(facts))
    values["network_mode"] = owner.network_mode
    values["addresses"] = owner.addresses
    values["networks"] = owner.networks
    values["exposed"] = tuple(sorted(wanted))
    values["bindings"] = tuple(binding for binding in owner.bindings if (binding.port, binding.protocol) in wanted)
    return Facts(**values)


def ports_of(facts: Facts, settings: Settings, named: Mapping[tuple[int, str], Attributes]) -> list[tuple[int, str]]:
    """Return the container's ports: those exposed and, where nothing needs to be published, those that labels name."""
    ports = set(facts.exposed)
    numbers = {port for port, _protocol in ports}
    for key, attributes in named.items():
        reachable = facts.network_mode == "host" or settings.internal or own_network(attributes) is not None
        # SERVICE_53_NAME also names the port of an image that exposes 53/udp only.
        if reachable and (key[0] not in numbers or key[1] != "tcp"):
            ports.add(key)
    return sorted(ports)


def own_network(attributes: Attributes) -> str | None:
    """Return the network of ``SERVICE_ADDRESS=container/<network>``, empty for any; None for another address."""
    word, _slash, network = attributes.get("address").partition("/")
    return network if word == "container" else None


def is_published(facts: Facts, settings: Settings, key: tuple[int, str], attributes: Attributes) -> bool:
    """Return whether a port counts for the name's suffix: at whatever address it is published, as for registrator."""
    if facts.network_mode == "host" or settings.internal or own_network(attributes) is not None:
        return True
    return any((binding.port, binding.protocol) == key for binding in facts.bindings)


def endpoints_of(
    facts: Facts,
    settings: Settings,
    key: tuple[int, str],
    attributes: Attributes,
    notices: Notices,
    notes: list[str],
) -> list[Endpoint]:
    """Return the endpoints of one port; when there is none, ``notes`` says why."""
    port, protocol = key
    network = own_network(attributes)
    if attributes.get("address") and network is None:
        notices.warn("address-value", "address", text=shown(attributes.get("address")))
    if network is not None and facts.network_mode == "host":
        notices.warn("address-host", "address")
    elif network is not None:
        own = _own_address(facts, settings, network)
        if not own:
            notices.refuse("address-none", "address", network=f" in the network {shown(network)}" if network else "")
            notes.append(f"port {port}/{protocol}: the container has no address of its own there")
        return [Endpoint(own, port)] if own else []
    if facts.network_mode == "host":
        return [Endpoint(settings.address, port)]
    if settings.internal:
        if not facts.addresses:
            notes.append("the container has no address of its own")
        return [Endpoint(facts.addresses[0], port)] if facts.addresses else []
    bindings = [binding for binding in facts.bindings if (binding.port, binding.protocol) == key]
    if not bindings:
        notes.append(f"port {port}/{protocol} is not published")
    return _published(bindings, settings, notes)


def _own_address(facts: Facts, settings: Settings, network: str) -> str:
    """Return the container's address, of the host's own IP version where it has one."""
    found = [address for name, address in facts.networks if network in ("", name)]
    version = _version(settings)
    found.sort(key=lambda address: ":" in address if version == 4 else ":" not in address)
    return found[0] if found else ""


def _published(bindings: Iterable[Binding], settings: Settings, notes: list[str]) -> list[Endpoint]:
    """Return the reachable endpoints of one container port."""
    own = _parse(settings.address)
    version = _version(settings)
    # Docker gives them in no fixed order; the ids must not change from one look to the next.
    bindings = sorted(bindings, key=lambda item: (not _is_wildcard(item.host_ip), item.host_port, item.host_ip))

    other: list[str] = []
    seen: set[tuple[str, int]] = set()
    ports: set[int] = set()
    endpoints: list[Endpoint] = []
    for binding in bindings:
        where = f"port {binding.port}/{binding.protocol} is published on {binding.host_ip}"
        if _is_wildcard(binding.host_ip):
            # Docker may give IPv4 and IPv6 different host ports, or publish for one of them only, and does not answer
            # for the other.
            if binding.host_ip and (6 if ":" in binding.host_ip else 4) != version:
                other.append(f"{where} only, not for IPv{version}, by which this host is known")
                continue
            address = settings.address
        else:
            parsed = _parse(binding.host_ip)
            if parsed is None or (parsed.is_loopback and not (own is not None and own.is_loopback)):
                notes.append(f"{where} only, which other hosts cannot reach")
                continue
            address = str(parsed)
        if (address, binding.host_port) in seen:
            continue
        seen.add((address, binding.host_port))
        suffix = ""
        if endpoints:
            suffix = f":{binding.host_port}"
            if binding.host_port in ports:
                suffix = f":{address.replace(':', '.')}-{binding.host_port}"
        ports.add(binding.host_port)
        endpoints.append(Endpoint(address, binding.host_port, suffix))
    if not endpoints:
        notes += other
    return endpoints
