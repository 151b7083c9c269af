# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registration convention: facts of a container -> the services that it provides. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from registrator.attributes import (
    PROTOCOLS,
    Attributes,
    Entry,
    Key,
    Notices,
    attributes_of,
    duration_seconds,
    entries_of,
    named_ports,
    unquoted,
)
from registrator.checks import Check, Target, asked_kinds, health_check, is_warming, label_check, warmup_check
from registrator.endpoints import Endpoint, effective_facts, endpoints_of, is_published, ports_of
from registrator.known import question_meta
from registrator.look import has_punycode, look
from registrator.meta import meta_of
from registrator.model import Facts, Outcome, Registration, Settings
from registrator.secrecy import secret_value, shown
from registrator.tags import tags_of

# Readers of the catalogue (consul-template, DNS, Consul's own URLs) break on other characters.
NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,126}[A-Za-z0-9_])?")
DNS_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
SERVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,254}")
# What costs a port its registration, so that its other labels need no word of their own.
_NO_NAME = ("secret", "characters", "reserved", "spelling", "look", "punycode", "missing")
WHOLE_PORT = frozenset(f"name-{what}" for what in _NO_NAME)
WHOLE_PORT |= {"address-none", "port-not-registered", "label-count"}
# Each costs the agent some milliseconds, during which all other containers wait.
MOST_PORTS = 1000
_WEIGHT = re.compile(r"(100|[0-9]{1,2})")

# An image that was started by its id has no name. Docker takes any beginning of the id; it prints 12 characters of it.
_IMAGE_ID = re.compile(r"sha256(:.*)?|[0-9a-f]{12}|[0-9a-f]{64}")


def image_name(image: str) -> str:
    """Return the image's last part, ``web`` of ``registry:5000/team/web:1.2@sha256:...``; empty for an image's id."""
    if _IMAGE_ID.fullmatch(image):
        return ""
    return image.split("@", 1)[0].rsplit("/", 1)[-1].split(":", 1)[0]


def default_name(facts: Facts) -> str:
    """Return the name of a container that gives none: its image's, else what Compose, swarm or Docker calls it."""
    labels = ("com.docker.compose.service", "com.docker.swarm.service.name")
    names = [image_name(facts.image), *(facts.labels.get(label, "") for label in labels), facts.name]
    return next((name for name in names if name), "")


@dataclass
class _Container:
    """One container while it is being looked at."""

    facts: Facts
    settings: Settings
    entries: list[Entry]
    now: float
    notices: Notices
    notes: list[str] = field(default_factory=list)
    attributes: dict[tuple[int, str], Attributes] = field(default_factory=dict)
    published: list[tuple[int, str]] = field(default_factory=list)
    until: float = math.inf
    # The labels that name one port, by its number; the others at 0.
    _by_port: dict[int, list[Entry]] = field(default_factory=dict)

    @property
    def group(self) -> bool:
        """Return whether several ports are published: then a name that is not given for one of them gets -<port>."""
        return len(self.published) > 1

    def __post_init__(self) -> None:
        for entry in self.entries:
            self._by_port.setdefault(entry.key.low if entry.key.is_exact else 0, []).append(entry)

    def read(self, key: tuple[int, str]) -> Attributes:
        """Return the attributes of one port."""
        return attributes_of([*self._by_port.get(0, ()), *self._by_port.get(key[0], ())], *key)

    def names_port(self, key: tuple[int, str]) -> bool:
        """Return whether a label or variable is about this very port."""
        return any(entry.key.rank(*key) for entry in self._by_port.get(key[0], ()))

    def has_port(self, key: Key) -> bool:
        """Return whether a label's name is about a port of the container."""
        if key.is_exact:
            protocols = (key.protocol,) if key.protocol else PROTOCOLS
            return any((key.low, protocol) in self.attributes for protocol in protocols)
        return any(key.rank(*port) for port in self.attributes)

    def tcp_checks(self) -> set[str]:
        """Return the kinds of check that tcp ports of the container have."""
        tcp = (self.attributes[key] for key in self.published if key[1] == "tcp")
        return {kind for attributes in tcp for kind in asked_kinds(attributes)[:1]}


def registrations_of(facts: Facts, settings: Settings, owner: Facts | None = None, now: float = math.inf) -> Outcome:
    """Return what this container provides, assuming it serves. Never raises because of what a user wrote on it.

    ``owner`` is the container whose network it shares; ``now``, in seconds since the epoch, decides about a warm-up,
    which without it is over.
    """
    if not facts.serving:
        state = "paused" if facts.paused else "restarting" if facts.restarting else "not running"
        return Outcome(notes=(f"the container is {state}",))
    if facts.network_owner and owner is None:
        owner_id = facts.network_owner[:12]
        return Outcome(notes=(f"the container shares the network of container {owner_id}, which does not run",))
    notices = Notices()
    entries = entries_of(facts, notices)
    if any(item.kind == "label-count" for item in notices.refusals):
        return Outcome(refusals=tuple(notices.refusals))
    facts = effective_facts(facts, owner, named_ports(entries))
    container = _Container(facts, settings, entries, now, notices)
    endpoints = _look_at_ports(container)
    registrations: list[Registration] = []
    tcp_checks = container.tcp_checks()
    for key, found in endpoints.items():
        registrations += _service(container, key, found, tcp_checks)
    _say_what_is_missing(container, registrations)
    question_meta((entry.key.name for entry in entries), registrations, settings, notices)
    return Outcome(
        tuple(registrations),
        tuple(dict.fromkeys(notices.refusals)),
        tuple(dict.fromkeys(notices.warnings)),
        tuple(dict.fromkeys(container.notes)),
        container.until,
    )


def _look_at_ports(container: _Container) -> dict[tuple[int, str], list[Endpoint]]:
    """Read the attributes of every port, and return where each that can be registered is reached."""
    facts, settings, notices = container.facts, container.settings, container.notices
    named = {key: container.read(key) for key in named_ports(container.entries)}
    ports = ports_of(facts, settings, named)
    if len(ports) > MOST_PORTS:
        # Those that somebody named come first.
        ports.sort(key=lambda key: (not container.names_port(key), key))
        notices.refuse("port-count", "*", most=MOST_PORTS, first="{}/{}".format(*ports[MOST_PORTS]))
        del ports[MOST_PORTS:]
    for key in ports:
        container.attributes[key] = unquoted(container.read(key), notices)
    read = container.attributes.items()
    container.published = [key for key, found in read if is_published(facts, settings, key, found)]
    grouped: dict[tuple[int, str], list[Endpoint]] = {}
    for key, attributes in container.attributes.items():
        if attributes.is_set("ignore"):
            container.notes.append(f"port {key[0]}/{key[1]}: SERVICE_IGNORE is set")
            continue
        notes: list[str] = []
        found = endpoints_of(facts, settings, key, attributes, notices, notes)
        container.notes += notes
        if found:
            grouped[key] = found
        elif container.names_port(key):
            notices.warn("port-not-registered", f"{key[0]}_*", port=f"{key[0]}/{key[1]}", why="; ".join(notes))
    if not container.attributes:
        container.notes.append("the container exposes no port")
    if not grouped and "com.docker.swarm.service.name" in facts.labels:
        container.notes.append("a port of swarm's routing mesh belongs to no container; publish it with mode=host")
    return grouped


def _say_what_is_missing(container: _Container, registrations: list[Registration]) -> None:
    """Warn of labels that name a port that the container has not, and of labels without which nothing is registered."""
    for entry in container.entries:
        key = entry.key
        if key.low and not container.has_port(key):
            free = container.facts.network_mode == "host" and key.is_exact and key.name != "name"
            hint = f", or add SERVICE_{key.low}_NAME to register it" if free else ""
            container.notices.warn("port-unknown", f"{key.where}_*", port=key.where.replace("_", "/"), hint=hint)
    written = [entry for entry in container.entries if entry.key.name != "ignore"]
    ignored = any(attributes.is_set("ignore") for attributes in container.attributes.values())
    said = {item.kind for item in (*container.notices.refusals, *container.notices.warnings)}
    explained = said & WHOLE_PORT
    if written and not registrations and not ignored and not explained:
        container.notices.warn("not-registered", "*", why="; ".join(container.notes))


def _name(container: _Container, key: tuple[int, str], attributes: Attributes) -> str:
    """Return the service's name; empty when the port must not be registered, and why is put down."""
    settings, notices = container.settings, container.notices
    name = attributes.get("name")
    if not name:
        if settings.explicit:
            why = "it has no SERVICE_NAME, and only named ports are registered here"
            container.notes.append(f"port {key[0]}/{key[1]}: {why}")
            if container.names_port(key):
                notices.warn("port-not-registered", f"{key[0]}_*", port=f"{key[0]}/{key[1]}", why=why)
            return ""
        name = default_name(container.facts)
        if not name:
            notices.refuse("name-missing", "name", image=shown(container.facts.image))
            return ""
    special = attributes.is_special("name") and attributes.get("name")
    if container.group and not special:
        name = f"{name}-{key[0]}"
    return name if _may_be_named(name, settings, notices) else ""


def _may_be_named(name: str, settings: Settings, notices: Notices) -> bool:
    """Return whether a container may claim this name; put down why not, and what is questionable about it."""
    folded = name.casefold()
    protected = {other.casefold(): other for other in settings.protected_names}
    secret = secret_value(name)
    if secret:
        notices.refuse("name-secret", "name", what=secret)
    elif not NAME.fullmatch(name):
        notices.refuse("name-characters", "name", text=shown(name))
    elif folded in {other.casefold() for other in settings.reserved_names}:
        notices.refuse("name-reserved", "name", text=shown(name))
    elif folded in protected and name not in settings.protected_names:
        notices.refuse("name-spelling", "name", text=shown(name), other=repr(protected[folded]))
    elif alike := _taken_for(name, settings):
        notices.refuse("name-look", "name", text=shown(name), other=alike)
    elif has_punycode(name):
        notices.refuse("name-punycode", "name", text=shown(name))
    else:
        if not DNS_NAME.fullmatch(name):
            notices.warn("name-dns", "name", text=shown(name))
        elif name != name.lower() and name not in settings.protected_names:
            notices.warn("name-case", "name", text=shown(name))
        return True
    return False


def _taken_for(name: str, settings: Settings) -> str:
    """Return the reserved or protected name that the name looks like; empty when there is none, or it is protected."""
    if name in settings.protected_names:
        return ""
    kinds = (("reserved name", settings.reserved_names), ("protected service", settings.protected_names))
    alike = [f"the {kind} {other!r}" for kind, others in kinds for other in others if look(other) == look(name)]
    return alike[0] if alike else ""


def _id(container: _Container, key: tuple[int, str], attributes: Attributes) -> tuple[str, bool]:
    """Return the id of the port's first endpoint, and whether it is the default form ``host:container:port``."""
    port, protocol = key
    notices = container.notices
    tail = f":{protocol}" if protocol == "udp" or (protocol != "tcp" and (port, "tcp") in container.published) else ""
    wanted, default = attributes.get("id"), f"{container.settings.hostname}:{container.facts.name}:{port}{tail}"
    secret = secret_value(wanted)
    if secret:
        notices.refuse("id-secret", "id", what=secret)
    elif wanted and not SERVICE_ID.fullmatch(wanted):
        notices.refuse("id-characters", "id", text=shown(wanted))
    elif wanted.lower().startswith(container.settings.hostname.lower() + ":"):
        # What others get without a label, and what their checks are called, nobody else can choose.
        if wanted != default:
            notices.refuse("id-form", "id", text=shown(wanted))
    elif wanted:
        # One id for several ports would make each overwrite the other.
        rank = attributes.ranks["id"]
        if container.group and rank < 4:
            return f"{wanted}-{port}{tail}", False
        both = rank == 4 and (port, "tcp") in container.published
        return wanted + (tail if both else ""), False
    return default, True


def _weight(attributes: Attributes, meta: dict[str, str], notices: Notices) -> int:
    """Return Consul's passing weight, with ``edge_weight`` put into the meta. Consul has no weight 0; the edge has."""
    text = attributes.get("weight")
    if not text:
        return 1
    if not _WEIGHT.fullmatch(text):
        meta.pop("weight", None)
        notices.refuse("weight", "weight", text=shown(text))
        return 1
    meta.setdefault("edge_weight", text)
    return max(1, int(text))


def _warmup(container: _Container, attributes: Attributes) -> float:
    """Return the seconds after the start during which the container gets no traffic."""
    text = attributes.get("warmup")
    seconds = duration_seconds(text)
    if text and not seconds:
        container.notices.refuse("warmup", "warmup", text=shown(text))
    if is_warming(container.facts, seconds, container.now):
        container.until = min(container.until, container.facts.started_at + seconds)
    return seconds


def _service(
    container: _Container,
    key: tuple[int, str],
    endpoints: list[Endpoint],
    tcp_checks: set[str],
) -> list[Registration]:
    """Return the registrations of one port, one for each endpoint."""
    facts, settings, notices = container.facts, container.settings, container.notices
    attributes = container.attributes[key]
    name = _name(container, key, attributes)
    if not name:
        return []
    tags = tags_of(attributes.get("tags"), settings.tags, key[1], notices)
    meta = meta_of(facts, settings, attributes, key[1], notices)
    weight = _weight(attributes, meta, notices)
    warmup = _warmup(container, attributes)
    base_id, default_id = _id(container, key, attributes)
    ports = frozenset([key[0], *(endpoint.port for endpoint in endpoints)])
    on_tcp_port = bool(tcp_checks & set(asked_kinds(attributes)[:1]))

    registrations: list[Registration] = []
    for endpoint in endpoints:
        service_id = base_id + endpoint.suffix
        target = Target(service_id, endpoint.address, endpoint.port, key[0], key[1], ports, on_tcp_port)
        made: list[Check] = [label_check(facts, settings, attributes, target, notices)]
        if settings.docker_health and facts.health:
            made.append(health_check(facts, service_id))
        if warmup:
            made.append(warmup_check(facts, service_id, warmup, container.now))
        registrations.append(
            Registration(
                id=service_id,
                name=name,
                address=endpoint.address,
                port=endpoint.port,
                tags=tags,
                meta=meta,
                weight_passing=weight,
                weight_warning=1,
                checks=tuple(check for check, _verdict in made if check),
                container=facts.id,
                default_id=default_id,
                verdicts=tuple(verdict for _check, verdict in made if verdict),
                protocol=key[1],
                tag_override=attributes.is_set("enable_tag_override"),
            )
        )
    return registrations
