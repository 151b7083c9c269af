# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``CHECK_*`` attributes, Docker's own health and the warm-up -> Consul check definitions. Pure.

A check that was asked for and cannot be made becomes one that stays critical and says why: without it the service would
count as healthy.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import SplitResult, urlsplit

from registrator.attributes import Attributes, Notices, duration_seconds, is_off
from registrator.model import CRITICAL, PASSING, Facts, Refusal, Settings, Verdict
from registrator.reasons import refusal
from registrator.secrecy import secret_name, secret_value, shown

DEFAULT_INTERVAL = "10s"

# A verdict is written when it changes, not by a heart beat: the engine's own death must not take services out.
VERDICT_TTL = "87600h"

_METHODS = ("GET", "HEAD")
_PATH = re.compile(r"[\x21-\x7e]{1,1024}")
_GRPC_SERVICE = re.compile(r"[A-Za-z0-9._/-]{0,256}")
_STATUS = ("passing", "warning", "critical")
_ON = ("1", "true", "yes", "on")
_HOST_AND_PORT = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):[0-9]+(/|$)")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_MOST_HEADERS = 64
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,512}")

# The order in which registrator looks for the kind of a check; the first one that is given is the check.
_KINDS = ("http", "https", "cmd", "script", "ttl", "tcp", "grpc")

# Kinds that ask the port itself, and therefore need tcp.
_TCP_KINDS = ("http", "https", "tcp", "grpc")

# Kinds that Consul or another registrator has, and this engine does not.
_UNSUPPORTED = ("udp", "docker", "docker_script", "h2ping", "alias", "os_service", "url", "uri")
# What was meant to be the check, too: SERVICE_CHECK=/health, SERVICE_CHECK_PATH, SERVICE_CHECK_HTTP_PATH.
_MEANT = ("", "path", "endpoint", "type", "command", "http_path", "https_path", "http_url", "https_url")

# Options of a check, and the kinds on which they have an effect.
_OPTIONS = {
    "http_method": ("http", "https"),
    "https_method": ("https",),
    "header": ("http", "https"),
    "tls_skip_verify": ("https", "grpc"),
    "grpc_use_tls": ("grpc",),
    "interval": tuple(kind for kind in _KINDS if kind != "ttl"),
    "timeout": tuple(kind for kind in _KINDS if kind != "ttl"),
    "initial_status": _KINDS,
    "deregister_after": _KINDS,
}


@dataclass(frozen=True)
class Target:
    """What a check asks: one endpoint of a service."""

    service_id: str
    address: str
    port: int
    container_port: int
    protocol: str = "tcp"
    # Ports that mean this one in a URL: that of the container and those of the host.
    ports: frozenset[int] = frozenset()
    # Whether the same attributes make this check on a tcp port of the container.
    on_tcp_port: bool = False


class _Refused(Exception):
    """The check cannot be made."""

    def __init__(self, kind: str, key: str, **values: object) -> None:
        super().__init__(kind)
        self.refusal = refusal(kind, key, **values)


def host_port(address: str, port: int) -> str:
    """Return ``address:port``, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _written(verdict: Verdict, name: str, **more: str) -> dict[str, Any]:
    """Return the definition of a check whose status the engine writes."""
    return {"CheckID": verdict.check_id, "Name": name, "TTL": VERDICT_TTL, "Status": verdict.status, **more}


def health_check(facts: Facts, service_id: str) -> tuple[dict[str, Any], Verdict]:
    """Return the check with Docker's HEALTHCHECK verdict: a starting or unhealthy container gets no traffic.

    What the HEALTHCHECK printed stays in Docker: it may be anything, and everybody can read the catalogue.
    """
    status = PASSING if facts.health == "healthy" else CRITICAL
    verdict = Verdict(f"service:{service_id}:docker", status, facts.health)
    return _written(verdict, f"Docker HEALTHCHECK of container {facts.name}"), verdict


def warmup_check(facts: Facts, service_id: str, seconds: float, now: float) -> tuple[dict[str, Any], Verdict]:
    """Return the check that keeps traffic away from a container that has only just started."""
    warming = is_warming(facts, seconds, now)
    verdict = Verdict(f"service:{service_id}:warmup", CRITICAL if warming else PASSING, "warming up" if warming else "warm")
    notes = f"no traffic during the first {seconds:g} s after the start"
    return _written(verdict, f"Warm-up of container {facts.name}", Notes=notes), verdict


def refused_check(service_id: str, reason: Refusal) -> tuple[dict[str, Any], Verdict]:
    """Return the check that stands for one that cannot be made."""
    verdict = Verdict(f"service:{service_id}:refused", CRITICAL, f"SERVICE_{reason.key.upper()}: {reason.reason}")
    return _written(verdict, f"Refused check of service '{service_id}'", Notes=verdict.output), verdict


def own_checks(service_id: str) -> tuple[str, ...]:
    """Return the ids of the checks that only the engine keeps true."""
    return tuple(f"service:{service_id}:{what}" for what in ("docker", "warmup", "refused"))


def is_warming(facts: Facts, seconds: float, now: float) -> bool:
    """Return whether the warm-up is under way. A start in the future means that the clock was set back; then the
    container serves."""
    return facts.started_at <= now < facts.started_at + seconds


def is_check(name: str) -> bool:
    """Return whether an attribute is about a check, and therefore no meta data."""
    return name == "check" or name.startswith("check_")


def asked_kinds(attributes: Attributes) -> list[str]:
    """Return the kinds of check that are asked for, and not switched off, in their order."""
    return [kind for kind in _KINDS if not is_off(attributes.get("check_" + kind))]


# A definition, and the verdict of a check whose status the engine writes.
Check = tuple[Optional[dict[str, Any]], Optional[Verdict]]


def label_check(facts: Facts, settings: Settings, attributes: Attributes, target: Target, notices: Notices) -> Check:
    """Return the check that the labels ask for, if any; with a verdict when it stands for one that cannot be made."""
    kinds = asked_kinds(attributes)
    kind = kinds[0] if kinds else ""
    for other in kinds[1:]:
        notices.refuse("check-second", "check_" + other, asked=kind)
    unsupported = _look_at_options(attributes, kind, notices)
    if not kind:
        return refused_check(target.service_id, unsupported) if unsupported else (None, None)
    if kind in _TCP_KINDS and target.protocol != "tcp" and target.on_tcp_port:
        notices.warn("check-udp", "check_" + kind, asked=kind, protocol=target.protocol)
        return None, None
    options = _options(kind, attributes, notices)
    try:
        asked = _asked(kind, facts, settings, attributes, target, notices)
    except _Refused as error:
        notices.refusals.append(error.refusal)
        return refused_check(target.service_id, error.refusal)
    check = {"CheckID": "service:" + target.service_id, "Name": f"Service '{target.service_id}' check", **asked}
    return {**check, **options}, None


def _look_at_options(attributes: Attributes, kind: str, notices: Notices) -> Refusal | None:
    """Report the options that do not exist or have no effect; return one that asks for a check that does not exist."""
    unsupported = None
    for name in sorted(attributes.values):
        if not is_check(name):
            continue
        option = name[len("check_") :]
        if not attributes.get(name) and (option in _KINDS or option in _OPTIONS):
            notices.warn("check-empty" if option in _KINDS else "check-option-empty", name)
            continue
        if option in _KINDS or (option in _OPTIONS and is_off(attributes.get(name))):
            continue
        if option in _OPTIONS:
            if not kind:
                # A check that is switched off takes its options along.
                if not any(attributes.get("check_" + other) for other in _KINDS):
                    notices.warn("check-alone", name)
            elif kind not in _OPTIONS[option] or (option == "http_method" and attributes.get("check_https_method")):
                notices.warn("check-option", name, asked=kind)
        elif is_off(attributes.get(name)):
            notices.refuse("check-unknown", name)
        elif option in _UNSUPPORTED + _MEANT or difflib.get_close_matches(option[:40], _KINDS, 1, 0.8):
            unsupported = refusal("check-unsupported", name)
            notices.refusals.append(unsupported)
        else:
            notices.refuse("check-unknown", name)
    return unsupported


def _asked(
    kind: str,
    facts: Facts,
    settings: Settings,
    attributes: Attributes,
    target: Target,
    notices: Notices,
) -> dict[str, Any]:
    """Return what one kind of check asks for. Raises: _Refused: it cannot be made."""
    name, value = "check_" + kind, attributes.get("check_" + kind)
    if kind in _TCP_KINDS and target.protocol != "tcp":
        raise _Refused("check-udp", name, asked=kind, protocol=target.protocol)
    secret = secret_value(value)
    if secret:
        raise _Refused("check-secret", name, what=secret)
    where = host_port(target.address, target.port)
    if kind in ("http", "https"):
        path = _path(kind, value, target, notices)
        # A redirect would lead the agent to whatever address the container names, its own host's loopback included.
        return {"HTTP": f"{kind}://{where}{path}", "DisableRedirects": True, **_request(kind, attributes)}
    if kind in ("cmd", "script"):
        if not settings.allow_scripts:
            raise _Refused("check-script", name)
        if kind == "cmd":
            return {"Args": ["check-cmd", facts.short_id, str(target.container_port), value]}
        return {"Args": ["/bin/sh", "-c", _filled(value, target)]}
    if kind == "ttl":
        if not duration_seconds(value):
            raise _Refused("check-ttl", name, text=shown(value))
        return {"TTL": value}
    if kind == "tcp":
        other = re.search(r"[0-9:/]", value) and value not in ("1", *map(str, target.ports))
        if other:
            raise _Refused("check-port", name, text=shown(value))
        return {"TCP": where}
    if _HOST_AND_PORT.match(value):
        raise _Refused("check-port", name, text=shown(value))
    service = "" if value.lower() in _ON else "/" + value.lstrip("/")
    if not _GRPC_SERVICE.fullmatch(service):
        raise _Refused("check-grpc", name, text=shown(value))
    return {"GRPC": where + service, "GRPCUseTLS": attributes.is_set("check_grpc_use_tls")}


def _filled(text: str, target: Target) -> str:
    """Return a text with registrator's two variables replaced."""
    return text.replace("$SERVICE_IP", target.address).replace("$SERVICE_PORT", str(target.port))


def _path(kind: str, value: str, target: Target, notices: Notices) -> str:
    """Return the path of an HTTP check. Raises: _Refused: the value is none."""
    name = "check_" + kind
    if value.lower() in _ON:
        raise _Refused("check-word", name, text=shown(value))
    value = _filled(value, target)
    url = _HOST_AND_PORT.match(value)
    if url:
        value = _path_of_url(kind, value if url["scheme"] else f"{kind}://{value}", target, notices)
    path = value if value.startswith("/") else "/" + value
    if not _PATH.fullmatch(path):
        # The value is not repeated: a query may hold what belongs into no log.
        raise _Refused("check-path", name)
    return path


def _path_of_url(kind: str, text: str, target: Target, notices: Notices) -> str:
    """Return the path of a URL that means the service's own port. Raises: _Refused: it means another one."""
    name = "check_" + kind
    try:
        url: SplitResult = urlsplit(text)
        port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    except ValueError:
        raise _Refused("check-url", name, right="SERVICE_CHECK_HTTP=/ or the path to ask for") from None
    host = (url.hostname or "localhost").lower()
    own = host in ("localhost", "0.0.0.0", "::", "::1", target.address.lower()) or host.startswith("127.")
    if url.scheme != kind or not own or port not in target.ports:
        right = "SERVICE_CHECK_{}={}".format("HTTPS" if url.scheme == "https" else "HTTP", (url.path or "/")[:60])
        raise _Refused("check-url", name, right=right)
    notices.warn("check-url-path", name, right=(url.path or "/")[:60])
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def _request(kind: str, attributes: Attributes) -> dict[str, Any]:
    """Return method and headers of an HTTP check. Raises: _Refused: they cannot be used."""
    request: dict[str, Any] = {}
    option = next((name for name in (f"check_{kind}_method", "check_http_method") if attributes.get(name)), "")
    method = attributes.get(option).upper()
    if method:
        if method not in _METHODS:
            raise _Refused("check-method", option, text=shown(method))
        request["Method"] = method
    header = attributes.get("check_header")
    if header:
        request["Header"] = _headers(header)
    return request


def _headers(text: str) -> dict[str, list[str]]:
    """Return the headers of ``Name: value`` lines, or of a JSON object. Raises: _Refused: they cannot be used."""
    pairs: list[tuple[str, Any]]
    try:
        if text.startswith("{"):
            lists = {name: value if isinstance(value, list) else [value] for name, value in json.loads(text).items()}
            pairs = [(name.strip(), value) for name, values in lists.items() for value in values]
        else:
            lines = [line.partition(":") for line in text.splitlines() if line.strip()]
            pairs = [(name.strip(), value.strip() if colon else None) for name, colon, value in lines]
    except (ValueError, RecursionError):
        pairs = []
    headers: dict[str, list[str]] = {}
    if not 1 <= len(pairs) <= _MOST_HEADERS:
        raise _Refused("check-header", "check_header")
    for name, value in pairs:
        if not isinstance(value, str) or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise _Refused("check-header", "check_header")
        if secret_name(name) or secret_value(value):
            raise _Refused("check-header-secret", "check_header", text=shown(name))
        headers.setdefault(name, []).append(value)
    return headers


def _options(kind: str, attributes: Attributes, notices: Notices) -> dict[str, Any]:
    """Return what the other options add to a check; one that cannot be read is refused, and the check stands."""
    options: dict[str, Any] = {}
    if kind in _OPTIONS["tls_skip_verify"] and attributes.is_set("check_tls_skip_verify"):
        options["TLSSkipVerify"] = True
    if kind != "ttl":
        options["Interval"] = _duration("check_interval", attributes, notices) or DEFAULT_INTERVAL
        timeout = _duration("check_timeout", attributes, notices)
        if timeout:
            options["Timeout"] = timeout
    status = attributes.get("check_initial_status").lower()
    if status in _STATUS:
        options["Status"] = status
    elif status:
        notices.refuse("check-status", "check_initial_status", text=shown(status))
    deregister = _duration("check_deregister_after", attributes, notices)
    if deregister:
        options["DeregisterCriticalServiceAfter"] = deregister
    return options


def _duration(name: str, attributes: Attributes, notices: Notices) -> str:
    """Return a duration; empty when it is not given or cannot be read."""
    value = attributes.get(name)
    if value and not duration_seconds(value):
        notices.refuse("check-duration", name, text=shown(value))
        return ""
    return value
