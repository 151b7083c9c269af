# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``CHECK_*`` attributes and Docker's own health -> Consul check definitions. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from registrator.attributes import is_set
from registrator.model import CRITICAL, PASSING, Facts, Refusal, Settings

DEFAULT_INTERVAL = "10s"

# Docker's verdict is written when it changes, not by a heart beat: the engine's own death must not take services out.
HEALTH_TTL = "87600h"

_DURATION = re.compile(r"^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$")
_NONZERO = re.compile(r"[1-9]")
_METHOD = re.compile(r"^[A-Z]{1,16}$")
_PATH = re.compile(r"^[\x21-\x7e]{1,1024}$")
_STATUS = ("passing", "warning", "critical")

# The order in which registrator looks for the kind of a check; the first one that is given is the check.
_KINDS = ("http", "https", "cmd", "script", "ttl", "tcp", "grpc")


def host_port(address: str, port: int) -> str:
    """``address:port``, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class _Reader:
    """Takes validated values out of the attributes and collects what it refuses."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self.attributes = attributes
        self.refusals: list[Refusal] = []

    def refuse(self, name: str, reason: str) -> None:
        self.refusals.append(Refusal(name, reason))

    def duration(self, name: str) -> str:
        value = self.attributes.get(name, "").strip()
        if not value:
            return ""
        if not _DURATION.match(value) or not _NONZERO.search(value):
            self.refuse(name, f"{value!r} is not a duration such as 10s or 1m30s")
            return ""
        return value


def health_check(facts: Facts, service_id: str) -> dict[str, Any] | None:
    """The check that carries Docker's HEALTHCHECK verdict; None for a container without one."""
    if not facts.health:
        return None
    return {
        "CheckID": f"service:{service_id}:docker",
        "Name": f"Docker HEALTHCHECK of container {facts.name}",
        "TTL": HEALTH_TTL,
        "Status": health_status(facts),
    }


def health_status(facts: Facts) -> str:
    """A starting container gets no traffic yet, an unhealthy one no more."""
    return PASSING if facts.health == "healthy" else CRITICAL


def label_check(
    facts: Facts, settings: Settings, attributes: Mapping[str, str], service_id: str, address: str, port: int, container_port: int
) -> tuple[dict[str, Any] | None, list[Refusal]]:
    """The check that the labels ask for, if any, and what was refused of them."""
    reader = _Reader(attributes)
    kind = next((kind for kind in _KINDS if attributes.get("check_" + kind, "").strip()), "")
    if not kind:
        return None, reader.refusals
    for other in _KINDS[_KINDS.index(kind) + 1 :]:
        if attributes.get("check_" + other, "").strip():
            reader.refuse("check_" + other, f"the container also has check_{kind}, which comes first")

    target = host_port(address, port)
    value = attributes["check_" + kind].strip()
    check: dict[str, Any] = {"CheckID": "service:" + service_id, "Name": f"Service '{service_id}' check"}

    if kind in ("http", "https"):
        path = value if value.startswith("/") else "/" + value
        if not _PATH.match(path):
            reader.refuse("check_" + kind, f"{value!r} is not a URL path")
            return None, reader.refusals
        check["HTTP"] = f"{kind}://{target}{path}"
        method = (attributes.get(f"check_{kind}_method") or attributes.get("check_http_method") or "").strip().upper()
        if method:
            if _METHOD.match(method):
                check["Method"] = method
            else:
                reader.refuse(f"check_{kind}_method", f"{method!r} is not an HTTP method")
    elif kind in ("cmd", "script"):
        if not settings.allow_scripts:
            reader.refuse("check_" + kind, "checks that run a program on the host are not allowed here")
            return None, reader.refusals
        if kind == "cmd":
            check["Args"] = ["check-cmd", facts.short_id, str(container_port), value]
        else:
            script = value.replace("$SERVICE_IP", address).replace("$SERVICE_PORT", str(port))
            check["Args"] = ["/bin/sh", "-c", script]
    elif kind == "ttl":
        ttl = reader.duration("check_ttl")
        if not ttl:
            return None, reader.refusals
        check["TTL"] = ttl
    elif kind == "tcp":
        if not is_set(attributes, "check_tcp"):
            return None, reader.refusals
        check["TCP"] = target
    else:
        if not is_set(attributes, "check_grpc"):
            return None, reader.refusals
        check["GRPC"] = target if value.lower() in ("1", "true", "yes", "on") else "{}/{}".format(target, value.lstrip("/"))
        check["GRPCUseTLS"] = is_set(attributes, "check_grpc_use_tls")

    if kind in ("https", "grpc") and is_set(attributes, "check_tls_skip_verify"):
        check["TLSSkipVerify"] = True
    if kind != "ttl":
        check["Interval"] = reader.duration("check_interval") or DEFAULT_INTERVAL
        timeout = reader.duration("check_timeout")
        if timeout:
            check["Timeout"] = timeout
    status = attributes.get("check_initial_status", "").strip().lower()
    if status in _STATUS:
        check["Status"] = status
    elif status:
        reader.refuse("check_initial_status", f"{status!r} is none of passing, warning, critical")
    deregister = reader.duration("check_deregister_after")
    if deregister:
        check["DeregisterCriticalServiceAfter"] = deregister
    return check, reader.refusals
