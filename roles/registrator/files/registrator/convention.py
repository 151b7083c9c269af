# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registration convention: facts of a container -> the services it stands for. Pure."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Mapping

from registrator.attributes import attributes_of, duration_seconds, is_set, named_ports, shown, split_tags
from registrator.checks import health_check, is_warming, label_check, warmup_check
from registrator.model import MARK, ORIGINS, Binding, Facts, Outcome, Refusal, Registration, Settings

# What Consul itself accepts; a registration beyond it would be refused as a whole.
META_PAIRS = 64
META_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
META_VALUE_BYTES = 512

# Readers of the catalogue (consul-template, DNS, Consul's own URLs) break on other characters, so such a name is refused.
NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,126}[A-Za-z0-9_])?")
DNS_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
SERVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,254}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_WEIGHT = re.compile(r"(100|[0-9]{1,2})")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

# Any SERVICE_* variable becomes meta, and the meta is for everybody to read.
_SECRET = re.compile(r"(^|[_-])(tokens?|secrets?|passwd|password|passphrase|pwd|credentials?|(api|access|private|secret)[_-]?key)$")

# Attributes that say how to register and are no information about the service.
_CONSUMED = ("name", "tags", "id", "ignore", "warmup")


def default_name(image: str) -> str:
    """``registry:5000/team/web:1.2@sha256:...`` -> ``web``."""
    return image.split("@", 1)[0].rsplit("/", 1)[-1].split(":", 1)[0]


def image_version(image: str) -> str:
    """The image's tag, when it says which version this is: a digest does not, and ``latest`` least of all."""
    name, _colon, tag = image.split("@", 1)[0].rsplit("/", 1)[-1].partition(":")
    return tag if _TAG.fullmatch(tag) and tag != "latest" and name != "sha256" else ""


def _is_wildcard(address: str) -> bool:
    return address in ("", "0.0.0.0", "::")  # compared, not bound


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None


def effective_facts(facts: Facts, owner: Facts | None) -> Facts:
    """Facts of a container that shares another one's network: the ports are published by the owner."""
    if not facts.network_owner or owner is None:
        return facts
    wanted = set(facts.exposed)
    values = dict(vars(facts))
    values["network_mode"] = owner.network_mode
    values["addresses"] = owner.addresses
    values["bindings"] = tuple(binding for binding in owner.bindings if (binding.port, binding.protocol) in wanted)
    return Facts(**values)


class _Endpoint:
    """Where one port of the container can be reached; the first endpoint of a port keeps registrator's id."""

    def __init__(self, port: int, protocol: str, address: str, host_port: int, suffix: str = "") -> None:
        self.port = port
        self.protocol = protocol
        self.address = address
        self.host_port = host_port
        self.suffix = suffix


def _published(bindings: Iterable[Binding], settings: Settings, notes: list[str]) -> list[_Endpoint]:
    """The reachable endpoints of one container port."""
    own = _parse(settings.address)
    version = own.version if own is not None else 4
    # Docker gives them in no fixed order; the ids must not change from one look to the next.
    bindings = sorted(bindings, key=lambda item: (not _is_wildcard(item.host_ip), item.host_port, item.host_ip))

    other: list[str] = []
    seen: set[tuple[str, int]] = set()
    ports: set[int] = set()
    endpoints: list[_Endpoint] = []
    for binding in bindings:
        if _is_wildcard(binding.host_ip):
            # Docker may give IPv4 and IPv6 different host ports, or publish for one of them only, and does not answer for the other.
            if binding.host_ip and (6 if ":" in binding.host_ip else 4) != version:
                other.append(
                    f"port {binding.port}/{binding.protocol} is published on {binding.host_ip} only, not for IPv{version}, by which this host is known"
                )
                continue
            address = settings.address
        else:
            parsed = _parse(binding.host_ip)
            if parsed is None or (parsed.is_loopback and not (own is not None and own.is_loopback)):
                notes.append(f"port {binding.port}/{binding.protocol} is published on {binding.host_ip} only, which other hosts cannot reach")
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
        endpoints.append(_Endpoint(binding.port, binding.protocol, address, binding.host_port, suffix))
    if not endpoints:
        notes += other
    return endpoints


def endpoints_of(facts: Facts, settings: Settings, notes: list[str]) -> dict[tuple[int, str], list[_Endpoint]]:
    """All ports of the container that can be registered, each with its endpoints."""
    if facts.network_mode == "host":
        return {key: [_Endpoint(key[0], key[1], settings.address, key[0])] for key in facts.exposed}
    if settings.internal:
        if not facts.addresses:
            notes.append("the container has no address of its own")
            return {}
        return {key: [_Endpoint(key[0], key[1], facts.addresses[0], key[0])] for key in facts.exposed}
    grouped: dict[tuple[int, str], list[_Endpoint]] = {}
    for key in facts.exposed:
        bindings = [binding for binding in facts.bindings if (binding.port, binding.protocol) == key]
        if not bindings:
            notes.append(f"port {key[0]}/{key[1]} is not published")
            continue
        found = _published(bindings, settings, notes)
        if found:
            grouped[key] = found
    return grouped


def _known_meta(facts: Facts) -> dict[str, str]:
    """What the container itself tells: its version and what it is part of."""
    known = {key: facts.labels[label] for label, key in ORIGINS.items() if facts.labels.get(label)}
    version = image_version(facts.image)
    return {"version": version, **known} if version else known


def _meta(facts: Facts, attributes: Mapping[str, str], refusals: list[Refusal]) -> dict[str, str]:
    """The free attributes that Consul accepts as meta, and behind them what nobody had to write."""
    meta: dict[str, str] = {}
    # What the edge reads comes first, so that it is not what falls out when there are too many.
    for key in sorted(attributes, key=lambda name: (not name.startswith("edge_") and name != "version", name)):
        value = attributes[key]
        if key in _CONSUMED or key.startswith("check_"):
            continue
        if not META_KEY.fullmatch(key):
            refusals.append(Refusal(key[:140], "a meta key may hold letters, digits, - and _ only, at most 128 of them"))
        elif key == MARK or key.startswith("consul-"):
            refusals.append(Refusal(key, "this meta key is reserved"))
        elif _SECRET.search(key):
            refusals.append(Refusal(key, "by its name this is a secret, and everybody can read the catalogue"))
        elif len(value.encode("utf-8", "replace")) > META_VALUE_BYTES:
            refusals.append(Refusal(key, f"the value has more than {META_VALUE_BYTES} bytes"))
        elif _CONTROL.search(value):
            refusals.append(Refusal(key, "the value has control characters"))
        elif len(meta) >= META_PAIRS - 2:
            # Two places are kept: one for the engine's mark, one for edge_weight.
            refusals.append(Refusal(key, f"Consul takes at most {META_PAIRS} meta pairs"))
        else:
            meta[key] = value
    for key, value in _known_meta(facts).items():
        if key not in attributes and len(meta) < META_PAIRS - 2 and len(value.encode("utf-8", "replace")) <= META_VALUE_BYTES and not _CONTROL.search(value):
            meta[key] = value
    return meta


def _weight(attributes: Mapping[str, str], meta: dict[str, str], refusals: list[Refusal]) -> tuple[int, int]:
    """Consul's weights, with ``edge_weight`` put into the meta. Consul has no weight 0; the edge has."""
    text = attributes.get("weight", "").strip()
    if not text:
        return 1, 1
    if not _WEIGHT.fullmatch(text):
        meta.pop("weight", None)
        refusals.append(Refusal("weight", f"{shown(text)} is not a whole number from 0 to 100"))
        return 1, 1
    meta.setdefault("edge_weight", text)
    return max(1, int(text)), 1


def _warmup(attributes: Mapping[str, str], refusals: list[Refusal]) -> float:
    """The seconds after the start during which the container gets no traffic."""
    text = attributes.get("warmup", "").strip()
    seconds = duration_seconds(text)
    if text and not seconds:
        refusals.append(Refusal("warmup", f"{shown(text)} is not a duration such as 10s or 1m30s"))
    return seconds


def _tags(attributes: Mapping[str, str], settings: Settings, protocol: str, refusals: list[Refusal]) -> tuple[str, ...]:
    tags: list[str] = []
    for tag in split_tags(attributes.get("tags", "")) + list(settings.tags) + (["udp"] if protocol == "udp" else []):
        if _CONTROL.search(tag) or len(tag) > 255:
            refusals.append(Refusal("tags", f"{shown(tag)} has control characters or more than 255 characters"))
        elif tag not in tags:
            tags.append(tag)
    return tuple(tags)


def registrations_of(facts: Facts, settings: Settings, owner: Facts | None = None, now: float = math.inf) -> Outcome:
    """What this container stands for, assuming it serves. Never raises because of what a user wrote on the container.

    ``owner`` is the container whose network it shares; ``now``, in seconds since the epoch, decides about a warm-up, which without it is over.
    """
    if not facts.serving:
        state = "paused" if facts.paused else "restarting" if facts.restarting else "not running"
        return Outcome(notes=(f"the container is {state}",))
    if facts.network_owner and owner is None:
        return Outcome(notes=(f"the container shares the network of container {facts.network_owner[:12]}, which does not run",))

    facts = effective_facts(facts, owner)
    notes: list[str] = []
    refusals: list[Refusal] = []
    warnings: list[Refusal] = []
    ports = endpoints_of(facts, settings, notes)
    if not facts.exposed:
        notes.append("the container exposes no port")
    for number in sorted(named_ports(facts) - {port for port, _protocol in facts.exposed}):
        warnings.append(Refusal(f"{number}_*", "the container has no such port; the number is that of the port inside of it, not of the published one"))

    if not ports and "com.docker.swarm.service.name" in facts.labels:
        notes.append("a port that swarm's routing mesh publishes belongs to no container; publish it with mode=host")

    group = len(ports) > 1
    until = math.inf
    registrations: list[Registration] = []
    for (port, protocol), endpoints in sorted(ports.items()):
        attributes, special = attributes_of(facts, port)
        if is_set(attributes, "ignore"):
            notes.append(f"port {port}/{protocol}: SERVICE_IGNORE is set")
            continue

        name = attributes.get("name", "").strip()
        if not name:
            if settings.explicit:
                notes.append(f"port {port}/{protocol} has no SERVICE_NAME, and only named ports are registered here")
                continue
            name = default_name(facts.image)
        if group and not ("name" in special and attributes["name"].strip()):
            name = f"{name}-{port}"
        if not NAME.fullmatch(name):
            refusals.append(Refusal("name", f"{shown(name)} cannot be a service name: letters, digits, '-', '_' and '.' only, at most 128"))
            continue
        if not DNS_NAME.fullmatch(name):
            warnings.append(Refusal("name", f"{shown(name)} cannot be resolved by DNS: letters, digits and '-' only, at most 63"))

        # Refusals of one port are the same for each of its bindings, so they are collected once.
        port_refusals: list[Refusal] = []
        tags = _tags(attributes, settings, protocol, port_refusals)
        meta = _meta(facts, attributes, port_refusals)
        passing, warning = _weight(attributes, meta, port_refusals)
        warmup = _warmup(attributes, port_refusals)
        if is_warming(facts, warmup, now):
            until = min(until, facts.started_at + warmup)
        base_id, default_id = _base_id(facts, settings, port, protocol, attributes, special, group, port_refusals)

        check_refusals: list[Refusal] = []
        for endpoint in endpoints:
            service_id = base_id + endpoint.suffix
            check, check_refusals = label_check(facts, settings, attributes, service_id, endpoint.address, endpoint.host_port, port)
            own = []
            if settings.docker_health and facts.health:
                own.append(health_check(facts, service_id))
            if warmup:
                own.append(warmup_check(facts, service_id, warmup, now))
            registrations.append(
                Registration(
                    id=service_id,
                    name=name,
                    address=endpoint.address,
                    port=endpoint.host_port,
                    tags=tags,
                    meta=meta,
                    weight_passing=passing,
                    weight_warning=warning,
                    checks=tuple(([check] if check else []) + [definition for definition, _verdict in own]),
                    container=facts.id,
                    default_id=default_id,
                    verdicts=tuple(verdict for _definition, verdict in own),
                )
            )
        refusals.extend(port_refusals)
        refusals.extend(check_refusals)
    return Outcome(tuple(registrations), tuple(dict.fromkeys(refusals)), tuple(dict.fromkeys(warnings)), tuple(notes), until)


def _base_id(
    facts: Facts,
    settings: Settings,
    port: int,
    protocol: str,
    attributes: Mapping[str, str],
    special: set[str],
    group: bool,
    refusals: list[Refusal],
) -> tuple[str, bool]:
    """The id of the port's first endpoint, and whether it is the default form ``host:container:port``."""
    tail = ":udp" if protocol == "udp" else ""
    wanted = attributes.get("id", "").strip()
    if wanted and not SERVICE_ID.fullmatch(wanted):
        refusals.append(Refusal("id", f"{shown(wanted)} cannot be a service id: letters, digits and . _ : @ - only, at most 255"))
        wanted = ""
    if not wanted:
        return f"{settings.hostname}:{facts.name}:{port}{tail}", True
    # One id for several ports would make each overwrite the other.
    if group and "id" not in special:
        wanted = f"{wanted}-{port}{tail}"
    return wanted, False
