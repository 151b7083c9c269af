# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an edge must serve and refuse for a catalogue, in plain Python.

Written from the filter guide, not from the templates: no code, pattern or constant of the collection is used here, so that a mistake over
there can't hide itself. Where both agree by accident, the running edge is still asked.
"""

from __future__ import annotations

import collections
import fnmatch
import ipaddress
import re
import typing as t
from dataclasses import dataclass, field, fields

DOMAIN = "apps.example"
CLOSED_PORTS = frozenset({22, 53, 8098, 8099, 2375, 2376, 8300, 8301, 8302, 8500, 8501, 8502, 8503, 8600})

BAD_NAME = "the name must be at most 63 letters, digits, hyphens and underscores, with a letter or digit at both ends"
PUNYCODE = "a name that begins with xn-- is shown with other letters than it has"
IMPOSTOR = "the name looks like that of protected service"
LOOKS_LIKE = "the name looks like that of service"
NO_PORT = "no public port: set meta edge_port, or name the service NAME-PORT"
UNEXPOSED = "the name is in unexposed_services"
GATEWAYS = ("ingress-gateway", "mesh-gateway", "terminating-gateway")
NOT_TCP = "not a TCP instance: it has tag udp, an id that ends in :udp, or meta registrator-protocol"
SIDECAR = "a sidecar proxy of Consul Connect is never exposed"
OWN = "this address and port belong to an edge itself"
ANOTHER = "another instance of the service has this address and port"

# Meta of an edge, and the tag that an instance needs for it.
META = {
    "edge_canary": "http",
    "edge_canary_share": "http",
    "edge_https": "http",
    "edge_keepalive": "http",
    "edge_port": "tcp",
    "edge_proxy_protocol": "tcp",
    "edge_weight": "",
}
UNKNOWN = f"is not known; known are {', '.join(sorted(META))}"
NO_CANARY = "meta edge_canary_share has an effect with meta edge_canary only"
CANARIES_ONLY = "meta edge_canary has no effect, because every usable instance is a canary"
UNSHARED = "meta edge_keepalive=true has no effect: keepalive is 0, or unshared_services or another instance turns it off"

# Every kind of reason for a refusal that the rules know.
REASONS = {
    CANARIES_ONLY,
    NO_CANARY,
    UNSHARED,
    "instances disagree about meta edge_canary_share",
    "instances disagree about meta edge_https",
    "instances disagree about meta edge_proxy_protocol",
    "meta KEY has an effect with tag http only",
    "meta KEY has an effect with tag tcp only",
    "meta KEY is empty and has no effect",
    "meta KEY is not known",
    "meta edge_https must be redirect, both or off",
    "meta edge_keepalive must be true or false",
    "no certificate covers the host name",
    ANOTHER,
    BAD_NAME,
    IMPOSTOR,
    LOOKS_LIKE,
    PUNYCODE,
    NO_PORT,
    NOT_TCP,
    OWN,
    SIDECAR,
    UNEXPOSED,
    "edge_weight is 0",
    "in maintenance",
    "max_instances are already used",
    "max_services are already served",
    "meta edge_canary must be true or false",
    "meta edge_canary_share must be an integer from 0 to 100",
    "meta edge_port must be a port from 1 to 65535",
    "meta edge_proxy_protocol must be true or false",
    "meta edge_weight must be an integer from 0 to 100",
    "no usable instance",
    "not healthy",
    "port N",
    "port N is not in tcp_ports",
    "port N is reserved",
    "the address must be a unicast IPv4 or IPv6 address",
    "the address must be a unicast IPv4 or IPv6 address, and not loopback",
    "the host name",
    "the name",
    "the name is another spelling of service",
    "the host name is in reserved_host_names",
    "the host name looks like one in reserved_host_names",
    "the host name is not in host_names",
    "the port is in backend_reserved_ports",
    "the port must be from 1 to 65535",
    "the public port must be from 1 to 65535",
    "warns and Weights.Warning is 0",
}


def literal(value: t.Any) -> str:
    """A value as Python text; a long repetition as such."""
    if isinstance(value, tuple):
        return f"({''.join(f'{literal(item)}, ' for item in value)})"
    if isinstance(value, str) and len(value) > 200:
        period = (value + value).find(value[:100], 1)
        if value == (value[:period] * (len(value) // period + 1))[: len(value)]:
            return f"({value[:period]!r} * {len(value) // period + 1})[:{len(value)}]"
    return repr(value)


class _Short:
    """Shows only what differs from the default, so that a failing catalogue is short and can be pasted into a test."""

    def __repr__(self) -> str:
        told = [(item, getattr(self, item.name)) for item in fields(self)]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{item.name}={literal(value)}' for item, value in told if value != item.default)})"

    def _repr_pretty_(self, printer: t.Any, _cycle: bool) -> None:
        printer.text(repr(self))


@dataclass(frozen=True, repr=False)
class Node(_Short):
    """A machine of the catalogue; every instance on it shares its health."""

    name: str
    address: str
    status: str = ""


@dataclass(frozen=True, repr=False)
class Instance(_Short):
    """One registration, as it is sent to Consul. An empty address is the node's."""

    service: str
    id: str
    node: Node
    address: str
    port: int
    tags: tuple[str, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()
    status: str = "passing"
    weights: tuple[int, int] | None = None
    #: What Consul Connect makes of it: "sidecar", "native" or nothing.
    mesh: str = ""


@dataclass(frozen=True, repr=False)
class Settings(_Short):
    """The part of the edge description that changes what is served."""

    accept_warning: bool = False
    allow_loopback: bool = True
    max_services: int = 5000
    max_instances: int = 200
    max_reports: int = 10000
    host_names: tuple[str, ...] = ()
    reserved_host_names: tuple[str, ...] = ()
    proxy_protocol: bool = False
    canary_share: int = 10
    edge_addresses: tuple[str, ...] = ()
    protected_services: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ports:
    """Where the edge listens, and which ports services may have."""

    http: int
    tls: int
    first: int
    last: int
    reserved: frozenset[int] = frozenset()
    #: The addresses of the edge at which it listens.
    addresses: frozenset[str] = frozenset()

    def refusal(self, port: int) -> str:
        """Why a service can't have a public port; empty when it can."""
        if port > 65535:
            return "the public port must be from 1 to 65535"
        if port in self.reserved or port in (self.http, self.tls):
            return f"port {port} is reserved"
        if not self.first <= port <= self.last:
            return f"port {port} is not in tcp_ports"
        return ""


@dataclass
class Upstream:
    """Servers by ``address:port`` as nginx writes it, each with its share."""

    service: str
    servers: dict[str, int] = field(default_factory=dict)
    canaries: dict[str, int] = field(default_factory=dict)
    share: int = 0
    versions: collections.Counter[str] = field(default_factory=collections.Counter)
    proxied: int = 0
    unshared: bool = False
    warns: set[str] = field(default_factory=set)


@dataclass
class Expected:
    """What must come out."""

    http: dict[str, Upstream] = field(default_factory=dict)
    #: Host labels that answer 503, and the service that each belongs to.
    empty: dict[str, str] = field(default_factory=dict)
    tcp: dict[int, Upstream] = field(default_factory=dict)
    tls: dict[str, Upstream] = field(default_factory=dict)
    #: Refusals of each side as (service, instance or empty, reason), as often as each is to be told.
    refused: dict[str, collections.Counter[tuple[str, str, str]]] = field(default_factory=lambda: {"http": collections.Counter(), "tcp": collections.Counter()})


def shown(text: str) -> str:
    """A free text in a report line: one hundred characters, and nothing but printable ASCII."""
    return "".join(character if " " <= character <= "~" else "?" for character in text[:100])


def good_name(name: str) -> bool:
    """Whether a service name can be one label of a host name."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return 1 <= len(name) <= 63 and set(name) <= set(letters + "-_") and name[0] in letters and name[-1] in letters


#: Characters that people take for others, and what all of these have in common.
_SEEN_AS = {"0": "o", "1": "l", "i": "l", "m": "rn", "w": "vv", "d": "cl"}


def in_lower_case(name: str) -> str:
    """The name as Go writes it in lower case: one character for each."""
    return "".join("i" if character == "\u0130" else character.lower() for character in name)


def seen_as(name: str, separators: str = "") -> str:
    """What a name looks like, with another sign, or none, in the place of its separators."""
    common = {**_SEEN_AS, **dict.fromkeys("-_.", separators)}
    return "".join(common.get(character, character) for character in in_lower_case(name))


def looks_reserved(label: str, pattern: str) -> bool:
    """Whether a label looks like one that a pattern reserves; separators count only in a pattern with a star."""
    reserved = pattern.partition(".")[0]
    if "*" not in reserved:
        return seen_as(label) == seen_as(reserved)
    # Any number of separators is as good as one.
    return fnmatch.fnmatchcase(re.sub("-+", "-", seen_as(label, "-")), re.sub("-+", "-", seen_as(reserved, "-")))


def nginx_address(text: str, allow_loopback: bool) -> str | None:
    """The address as nginx writes it, or nothing when no instance may have it."""
    if not text.isascii() or "%" in text or len(text) > 45:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.is_loopback:
        return (str(address) if address.version == 4 else "[::1]") if allow_loopback and (address.version == 4 or text == "::1") else None
    if address.version == 4:
        first = int(text.split(".")[0])
        return None if first == 0 or first >= 224 or text.startswith("169.254.") else text
    if "." in text or not (address in ipaddress.ip_network("2000::/3") or address in ipaddress.ip_network("fc00::/7")):
        return None
    # nginx knows no "::" that stands for the last group alone.
    if text.endswith("::") and text.count(":") == 8:
        return None
    return f"[{text.lower()}]"


def whole(text: str, low: int, high: int) -> int | None:
    """A whole number in its one usual spelling."""
    return int(text) if re.fullmatch("0|[1-9][0-9]*", text, re.ASCII) and low <= int(text) <= high else None


def yes_or_no(text: str) -> bool | None:
    """A truth value as the guide spells it, in any case."""
    return {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}.get(text.lower() if text.isascii() else "")


def health(instance: Instance) -> str:
    """The worst of an instance's own check and its node's. A state that nobody knows, which Consul takes from anyone, is the worst."""
    found = {instance.status, instance.node.status} - {""}
    if found - {"maintenance", "critical", "warning", "passing"}:
        return "critical"
    return next((status for status in ("maintenance", "critical", "warning") if status in found), "passing")


class Oracle:
    """Works out one catalogue."""

    def __init__(self, instances: t.Iterable[Instance], settings: Settings, ports: Ports) -> None:
        # Whoever comes first in the order of nodes and ids has the first choice.
        self.instances = sorted(instances, key=lambda instance: (instance.node.name, instance.id))
        self.settings, self.ports = settings, ports
        self.expected = Expected()
        self.edges = ports.addresses | set(settings.edge_addresses)
        # Public tcp ports that are somebody's.
        self.claimed: set[int] = set()
        self.warned: set[tuple[str, str, str]] = set()

    def refuse(self, side: str, service: str, reason: str, instance: Instance | None = None) -> None:
        """One line that the report must hold."""
        self.expected.refused[side][shown(service), shown(instance.id) if instance else "", reason] += 1

    def tagged(self, tag: str) -> dict[str, list[Instance]]:
        """The instances that opted in, by exact service name, in byte order of the names."""
        found: dict[str, list[Instance]] = {}
        for instance in self.instances:
            if tag in instance.tags:
                found.setdefault(instance.service, []).append(instance)
        return {name: found[name] for name in sorted(found)}

    @staticmethod
    def foreign(instance: Instance) -> str:
        """Why an instance is none of the edge's business, whatever its health."""
        protocol = dict(instance.meta).get("registrator-protocol", "")
        if "udp" in instance.tags or instance.id.endswith(":udp") or protocol not in ("", "tcp"):
            return NOT_TCP
        return SIDECAR if instance.mesh == "sidecar" else ""

    def question(self, side: str, instance: Instance) -> None:
        """Warn of meta that has no effect, once for a service; that of an instance with an HTTP tag is the http side's."""
        if side == "tcp" and "http" in instance.tags:
            return
        meta = dict(instance.meta)
        for key, value in meta.items():
            word = ""
            if key.lower()[:5] not in ("edge_", "edge-"):
                continue
            if key not in META:
                word = UNKNOWN
            elif not value:
                word = "is empty and has no effect"
            elif META[key] and META[key] not in instance.tags:
                word = f"has an effect with tag {META[key]} only"
            elif key == "edge_canary_share" and not yes_or_no(meta.get("edge_canary", "")):
                word = NO_CANARY.partition(f"{key} ")[2]
            reason = f"meta {shown(key)} {word}"
            if word and (side, instance.service, reason) not in self.warned:
                self.warned.add((side, instance.service, reason))
                self.refuse(side, instance.service, reason)

    def own(self, address: str, port: int) -> bool:
        """Whether a place is one of the edge itself."""
        if ipaddress.ip_address(address.strip("[]")) not in {ipaddress.ip_address(edge) for edge in self.edges}:
            return False
        return port in self.ports.reserved or port in (self.ports.http, self.ports.tls) or port in self.claimed

    def judge(self, instance: Instance) -> tuple[str, str, int]:
        """(why not, server, share) of an instance, for what all kinds of exposure have in common."""
        status = health(instance)
        if status == "maintenance":
            return "in maintenance", "", 0
        if status == "critical" or (status == "warning" and not self.settings.accept_warning):
            return "not healthy", "", 0
        address = nginx_address(instance.address or instance.node.address, self.settings.allow_loopback)
        if address is None:
            return f"the address must be a unicast IPv4 or IPv6 address{'' if self.settings.allow_loopback else ', and not loopback'}", "", 0
        if not 1 <= instance.port <= 65535:
            return "the port must be from 1 to 65535", "", 0
        if instance.port in CLOSED_PORTS:
            return "the port is in backend_reserved_ports", "", 0
        if self.own(address, instance.port):
            return OWN, "", 0
        passing, warning = instance.weights or (1, 1)
        if not (1 <= passing <= 65535 and 0 <= warning <= 65535):
            # Consul takes any weights, and answers with 1 and 1 when they are out of its bounds.
            passing = warning = 1
        consul = warning if status == "warning" else passing
        if status == "warning" and consul <= 0:
            return "warns and Weights.Warning is 0", "", 0
        share = 100 * consul
        wanted = dict(instance.meta).get("edge_weight", "")
        if wanted:
            percent = whole(wanted, 0, 100)
            if percent is None:
                return "meta edge_weight must be an integer from 0 to 100", "", 0
            if percent == 0:
                return "edge_weight is 0", "", 0
            share = share * percent // 100
        return "", f"{address}:{instance.port}", share

    def note(self, upstream: Upstream, server: str, instance: Instance) -> None:
        """What the report tells of an instance: that it warns, and its version when that looks like one, at most eight different ones of a service."""
        if health(instance) == "warning":
            upstream.warns.add(server)
        version = dict(instance.meta).get("version", "")
        well_formed = re.fullmatch("[A-Za-z0-9][A-Za-z0-9._+-]{0,39}", version, re.ASCII)
        if well_formed and (version in upstream.versions or len(upstream.versions) < 8):
            upstream.versions[version] += 1

    def protected(self, name: str) -> bool:
        """Whether a name is that of a protected service, in whatever spelling."""
        return in_lower_case(name) in {other.lower() for other in self.settings.protected_services}

    def looks_protected(self, name: str) -> str:
        """The protected service that a name looks like and is not."""
        alike = [other for other in sorted(self.settings.protected_services) if seen_as(other) == seen_as(name)]
        return alike[0] if alike and not self.protected(name) else ""

    def name_refusal(self, name: str) -> str:
        """Why no service of this name, which is a good one as such, is exposed."""
        if name.lower().startswith("xn--"):
            return PUNYCODE
        if name.lower() in GATEWAYS:
            return UNEXPOSED
        return f"{IMPOSTOR} {self.looks_protected(name)}" if self.looks_protected(name) else ""

    def question_looks(self) -> None:
        """Warn of names that look like others of the catalogue, unless they are refused on this side."""
        first: dict[str, str] = {}
        tagged = self.tagged("http")
        # Consul's own service is in every catalogue.
        for name in sorted({"consul", *(instance.service for instance in self.instances)}, key=str.encode):
            if len(name.encode()) > 63 or self.protected(name):
                continue
            if owner := self.looks_protected(name):
                if name not in tagged:
                    self.refuse("http", name, f"{LOOKS_LIKE} {owner}")
                continue
            other = first.setdefault(seen_as(name), name)
            if in_lower_case(other) != in_lower_case(name):
                self.refuse("http", name, f"{LOOKS_LIKE} {shown(other)}")

    def spelled(self, names: t.Iterable[str]) -> dict[str, str]:
        """Names that differ in case only have one owner: the protected one, lower case, the first in byte order."""
        owners = {name.lower(): name for name in sorted(self.settings.protected_services)}
        names = [name for name in names if name.lower() not in owners]
        for name in sorted(names):
            if name == name.lower() or name.lower() not in owners:
                owners[name.lower()] = name
        return owners

    def host_owners(self, side: str, tag: str) -> dict[str, str]:
        """Which service has which host label."""
        owners: dict[str, str] = {}
        spelled = self.spelled(self.tagged(tag))
        for name in self.tagged(tag):
            if not good_name(name):
                self.refuse(side, name, BAD_NAME)
                continue
            label = name.lower()
            if refusal := self.name_refusal(name):
                self.refuse(side, name, refusal)
                continue
            host = f"{label}.{DOMAIN}"
            if self.settings.host_names and not any(fnmatch.fnmatchcase(host, pattern) for pattern in self.settings.host_names):
                self.refuse(side, name, "the host name is not in host_names")
            elif any(fnmatch.fnmatchcase(host, pattern) for pattern in self.settings.reserved_host_names):
                self.refuse(side, name, "the host name is in reserved_host_names")
            elif any(looks_reserved(label, pattern) for pattern in self.settings.reserved_host_names):
                self.refuse(side, name, "the host name looks like one in reserved_host_names")
            elif spelled[label] != name:
                self.refuse(side, name, f"the host name belongs to service {spelled[label]}")
            else:
                owners[label] = name
        return {label: owners[label] for label in sorted(owners)}

    def http(self) -> None:
        """Services by host name."""
        tagged = self.tagged("http")
        owners = self.host_owners("http", "http")
        # Consul's own service is in every catalogue.
        spelled = self.spelled({"consul", *(instance.service for instance in self.instances)})
        for name in sorted({instance.service for instance in self.instances}):
            another = good_name(name) and not name.lower().startswith("xn--") and spelled[name.lower()] != name
            if another and (name not in tagged or owners.get(name.lower()) == name):
                self.refuse("http", name, f"the name is another spelling of service {spelled[name.lower()]}")
        self.question_looks()
        for number, (label, name) in enumerate(owners.items()):
            if number >= self.settings.max_services:
                self.refuse("http", name, "max_services are already served")
                continue
            upstream, shares, https, reuse = Upstream(name), [], set(), set()
            for instance in tagged[name]:
                if foreign := self.foreign(instance):
                    self.refuse("http", name, foreign, instance)
                    continue
                self.question("http", instance)
                meta = dict(instance.meta)
                why, server, share = self.judge(instance)
                canary = yes_or_no(meta["edge_canary"]) if meta.get("edge_canary") else False
                if canary is None:
                    why = why or "meta edge_canary must be true or false"
                wanted = meta.get("edge_canary_share", "") if canary else ""
                percent = whole(wanted, 0, 100) if wanted else None
                if wanted and percent is None:
                    why = why or "meta edge_canary_share must be an integer from 0 to 100"
                kept = yes_or_no(meta["edge_keepalive"]) if meta.get("edge_keepalive") else ""
                if kept is None:
                    why = why or "meta edge_keepalive must be true or false"
                if meta.get("edge_https") and meta["edge_https"] not in ("redirect", "both", "off"):
                    why = why or "meta edge_https must be redirect, both or off"
                if not why and (server in upstream.servers or server in upstream.canaries):
                    why = ANOTHER
                if not why and len(upstream.servers) + len(upstream.canaries) >= self.settings.max_instances:
                    why = "max_instances are already used"
                if why:
                    self.refuse("http", name, why, instance)
                    continue
                (upstream.canaries if canary else upstream.servers)[server] = share
                shares += [] if percent is None else [percent]
                https |= {meta["edge_https"]} if meta.get("edge_https") else set()
                reuse |= {kept}
                self.note(upstream, server, instance)
            upstream.share = min(shares, default=self.settings.canary_share)
            upstream.unshared = False in reuse
            if upstream.canaries and not upstream.servers:
                upstream.servers, upstream.canaries = upstream.canaries, {}
                self.refuse("http", name, CANARIES_ONLY)
            if len(https) > 1:
                safest = "redirect" if "redirect" in https else "both"
                self.refuse("http", name, f"instances disagree about meta edge_https: {safest} is used")
            if https - {"off"}:
                self.refuse("http", name, "no certificate covers the host name")
            if upstream.unshared and True in reuse:
                self.refuse("http", name, UNSHARED)
            if upstream.canaries and len(set(shares)) > 1:
                self.refuse("http", name, f"instances disagree about meta edge_canary_share: {upstream.share} is used")
            if upstream.servers:
                self.expected.http[label] = upstream
            elif any(not self.foreign(instance) for instance in tagged[name]):
                self.expected.empty[label] = name
                self.refuse("http", name, "no usable instance")

    def wanted_port(self, instance: Instance) -> str:
        """The public port that an instance asks for, as text."""
        meta = dict(instance.meta).get("edge_port", "")
        suffix = re.fullmatch(r".+-([1-9][0-9]{0,4})", instance.service, re.ASCII)
        return meta or (suffix.group(1) if suffix else "")

    def port_refusal(self, wanted: str) -> str:
        """Why an instance can't have the public port that it asks for."""
        if not wanted:
            return NO_PORT
        if not re.fullmatch("[1-9][0-9]{0,4}", wanted, re.ASCII):
            return "meta edge_port must be a port from 1 to 65535"
        return self.ports.refusal(int(wanted))

    def tcp(self) -> None:
        """Services by a port of their own."""
        tagged = {}
        spelled = self.spelled(self.tagged("tcp"))
        for name, instances in self.tagged("tcp").items():
            if not good_name(name):
                self.refuse("tcp", name, BAD_NAME)
            elif refusal := self.name_refusal(name):
                self.refuse("tcp", name, refusal)
            elif spelled[name.lower()] != name:
                self.refuse("tcp", name, f"the name belongs to service {spelled[name.lower()]}")
            elif len(tagged) >= self.settings.max_services:
                self.refuse("tcp", name, "max_services are already served")
            else:
                tagged[name] = instances
        owners: dict[str, str] = {}
        # First those that carry the port in their name, then those that ask for it, each in byte order of the names.
        for by_name in (True, False):
            for name, instances in tagged.items():
                for instance in instances:
                    wanted = self.wanted_port(instance)
                    if self.foreign(instance) or self.port_refusal(wanted):
                        continue
                    if not by_name:
                        owners.setdefault(wanted, name)
                    elif not dict(instance.meta).get("edge_port"):
                        owners.setdefault(wanted, name)
                        self.claimed.add(int(wanted))
        served = 0
        for name, instances in tagged.items():
            found: dict[str, Upstream] = {}
            for instance in instances:
                if foreign := self.foreign(instance):
                    self.refuse("tcp", name, foreign, instance)
            instances = [instance for instance in instances if not self.foreign(instance)]
            for instance in instances:
                self.question("tcp", instance)
            for wanted in sorted({self.wanted_port(instance) for instance in instances if not self.port_refusal(self.wanted_port(instance))}):
                if owners[wanted] != name:
                    self.refuse("tcp", name, f"port {wanted} belongs to service {owners[wanted]}")
            for instance in instances:
                wanted = self.wanted_port(instance)
                refusal = self.port_refusal(wanted)
                if refusal:
                    self.refuse("tcp", name, refusal, instance)
                    continue
                self.claimed.add(int(wanted))
                if owners[wanted] == name:
                    upstream = found.setdefault(wanted, Upstream(name))
                    proxy = dict(instance.meta).get("edge_proxy_protocol", "")
                    proxied = yes_or_no(proxy) if proxy else self.settings.proxy_protocol
                    more = "" if proxied is not None else "meta edge_proxy_protocol must be true or false"
                    if self.add("tcp", upstream, instance, more) and proxied:
                        upstream.proxied += 1
            for wanted in sorted(found):
                if not found[wanted].servers:
                    self.refuse("tcp", name, "no usable instance")
                elif served >= self.settings.max_services:
                    self.refuse("tcp", name, "max_services are already served")
                else:
                    served += 1
                    if found[wanted].proxied not in (0, len(found[wanted].servers)):
                        which = f"edge_proxy_protocol on port {wanted}: none gets the header"
                        self.refuse("tcp", name, f"instances disagree about meta {which}")
                    self.expected.tcp[int(wanted)] = found[wanted]

    def add(self, side: str, upstream: Upstream, instance: Instance, more: str = "") -> bool:
        """Take an instance into an upstream of the stream side, or refuse it."""
        why, server, share = self.judge(instance)
        why = why or more
        if not why and server in upstream.servers:
            why = ANOTHER
        if not why and len(upstream.servers) >= self.settings.max_instances:
            why = "max_instances are already used"
        if why:
            self.refuse(side, upstream.service, why, instance)
            return False
        upstream.servers[server] = share
        self.note(upstream, server, instance)
        return True

    def tls(self) -> None:
        """Services by the name in the TLS hello."""
        tagged = self.tagged("tls")
        for number, (label, name) in enumerate(self.host_owners("tcp", "tls").items()):
            if number >= self.settings.max_services:
                self.refuse("tcp", name, "max_services are already served")
                continue
            upstream = Upstream(name)
            for instance in tagged[name]:
                if foreign := self.foreign(instance):
                    self.refuse("tcp", name, foreign, instance)
                else:
                    self.question("tcp", instance)
                    self.add("tcp", upstream, instance)
            if not upstream.servers and all(map(self.foreign, tagged[name])):
                continue
            if not upstream.servers:
                self.refuse("tcp", name, "no usable instance")
            else:
                self.expected.tls[label] = upstream

    def work_out(self) -> Expected:
        """Everything."""
        self.http()
        self.tcp()
        self.tls()
        return self.expected
