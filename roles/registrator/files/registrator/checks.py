# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``CHECK_*`` attributes, Docker's own health and the warm-up -> Consul check definitions. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from registrator.attributes import duration_seconds, is_set, shown
from registrator.model import CRITICAL, PASSING, Facts, Refusal, Settings, Verdict

DEFAULT_INTERVAL = "10s"

# A verdict is written when it changes, not by a heart beat: the engine's own death must not take services out.
VERDICT_TTL = "87600h"

_METHOD = re.compile(r"[A-Z]{1,16}")
_PATH = re.compile(r"[\x21-\x7e]{1,1024}")
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
        if not duration_seconds(value):
            self.refuse(name, f"{shown(value)} is not a duration such as 10s or 1m30s")
            return ""
        return value


def _written(verdict: Verdict, name: str, **more: str) -> dict[str, Any]:
    """The definition of a check whose status the engine writes."""
    return {"CheckID": verdict.check_id, "Name": name, "TTL": VERDICT_TTL, "Status": verdict.status, **more}


def health_check(facts: Facts, service_id: str) -> tuple[dict[str, Any], Verdict]:
    """The check that carries Docker's HEALTHCHECK verdict: a starting container gets no traffic yet, an unhealthy one no more."""
    status = PASSING if facts.health == "healthy" else CRITICAL
    verdict = Verdict(f"service:{service_id}:docker", status, (facts.health_output.strip() or facts.health)[:1000])
    return _written(verdict, f"Docker HEALTHCHECK of container {facts.name}"), verdict


def warmup_check(facts: Facts, service_id: str, seconds: float, now: float) -> tuple[dict[str, Any], Verdict]:
    """The check that keeps traffic away from a container that has only just started."""
    warming = is_warming(facts, seconds, now)
    verdict = Verdict(f"service:{service_id}:warmup", CRITICAL if warming else PASSING, "warming up" if warming else "warm")
    return _written(verdict, f"Warm-up of container {facts.name}", Notes=f"no traffic during the first {seconds:g} s after the start"), verdict


def own_checks(service_id: str) -> tuple[str, str]:
    """The ids of the checks that nobody but the engine keeps true."""
    return f"service:{service_id}:docker", f"service:{service_id}:warmup"


def is_warming(facts: Facts, seconds: float, now: float) -> bool:
    """Whether the warm-up is under way. A start in the future means that the clock was set back; then the container serves."""
    return facts.started_at <= now < facts.started_at + seconds


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
        if not _PATH.fullmatch(path):
            # The value is not repeated: a query may hold what belongs into no log.
            reader.refuse("check_" + kind, "a URL path has 1 to 1024 printable ASCII characters and no blank")
            return None, reader.refusals
        check["HTTP"] = f"{kind}://{target}{path}"
        method = (attributes.get(f"check_{kind}_method") or attributes.get("check_http_method") or "").strip().upper()
        if method:
            if _METHOD.fullmatch(method):
                check["Method"] = method
            else:
                reader.refuse(f"check_{kind}_method", f"{shown(method)} is not an HTTP method")
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
        reader.refuse("check_initial_status", f"{shown(status)} is none of passing, warning, critical")
    deregister = reader.duration("check_deregister_after")
    if deregister:
        check["DeregisterCriticalServiceAfter"] = deregister
    return check, reader.refusals
