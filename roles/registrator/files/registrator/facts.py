# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's inspect document -> :class:`Facts`. Pure, and tolerant of keys that newer or older engines leave out."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from registrator.model import Binding, Facts

_TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$")


def parse_time(text: str) -> float:
    """Seconds since the epoch of one of Docker's time stamps; 0.0 for the zero time and for anything unreadable."""
    match = _TIME.match(text or "")
    if not match or text.startswith("0001-"):
        return 0.0
    zone = "+00:00" if match.group(3) == "Z" else match.group(3)
    moment = datetime.fromisoformat(match.group(1) + zone)
    return moment.astimezone(timezone.utc).timestamp() + float(match.group(2) or 0)


def parse_signal(value: Any) -> int:
    """The number of a stop signal given as ``15``, ``TERM`` or ``SIGTERM``; SIGTERM when it is not given or not known."""
    text = str(value or "").strip().upper()
    if text.isdecimal() and len(text) <= 3:
        return int(text)
    name = text if text.startswith("SIG") else "SIG" + text
    if text.startswith("SIGRTMIN+") and text[9:].isdecimal() and len(text) <= 11:
        return int(signal.SIGRTMIN) + int(text[9:])
    found = getattr(signal, name, None)
    return int(found) if isinstance(found, signal.Signals) else int(signal.SIGTERM)


def _split_port(text: str) -> tuple[int, str] | None:
    number, _slash, protocol = text.partition("/")
    if not number.isdecimal() or len(number) > 5 or not 0 < int(number) < 65536:
        return None
    return int(number), (protocol or "tcp").lower()


def _environment(items: Iterable[Any]) -> dict[str, str]:
    env: dict[str, str] = {}
    for item in items:
        key, equals, value = str(item).partition("=")
        if equals:
            env[key] = value
    return env


def _bindings(ports: Mapping[str, Any]) -> list[Binding]:
    found: list[Binding] = []
    for text, published in ports.items():
        port = _split_port(text)
        if port is None:
            continue
        for item in published or ():
            host_port = str(item.get("HostPort") or "")
            if host_port.isdecimal() and 0 < int(host_port) < 65536:
                found.append(Binding(port[0], port[1], str(item.get("HostIp") or ""), int(host_port)))
    return found


def facts_of(document: Mapping[str, Any]) -> Facts:
    """The facts of one inspected container."""
    config = document.get("Config") or {}
    state = document.get("State") or {}
    host = document.get("HostConfig") or {}
    network = document.get("NetworkSettings") or {}
    ports = network.get("Ports") or {}
    mode = str(host.get("NetworkMode") or "default")

    exposed = set()
    for text in list(config.get("ExposedPorts") or {}) + list(ports):
        port = _split_port(text)
        if port:
            exposed.add(port)

    # Engines before API 1.52 also give the address at the top level; the networks have it in all versions.
    addresses: list[str] = []
    attached: list[tuple[str, str]] = []
    networks = network.get("Networks") or {}
    for name in sorted(networks, key=lambda key: (key != mode, key)):
        entry = networks[name] or {}
        for key in ("IPAddress", "GlobalIPv6Address"):
            if entry.get(key) and entry[key] not in addresses:
                addresses.append(str(entry[key]))
                attached.append((name, str(entry[key])))
    if not addresses and network.get("IPAddress"):
        addresses.append(str(network["IPAddress"]))

    health = state.get("Health") or {}
    status = str(health.get("Status") or "")
    timeout = config.get("StopTimeout")

    return Facts(
        id=str(document.get("Id") or ""),
        name=str(document.get("Name") or "").lstrip("/"),
        image=str(config.get("Image") or ""),
        running=bool(state.get("Running")) and not state.get("Dead"),
        paused=bool(state.get("Paused")),
        restarting=bool(state.get("Restarting")),
        pid=int(state.get("Pid") or 0),
        created=str(document.get("Created") or ""),
        started_at=parse_time(str(state.get("StartedAt") or "")),
        labels={str(key): str(value) for key, value in (config.get("Labels") or {}).items()},
        env=_environment(config.get("Env") or ()),
        network_mode=mode,
        network_owner=mode[len("container:") :] if mode.startswith("container:") else "",
        exposed=tuple(sorted(exposed)),
        bindings=tuple(_bindings(ports)),
        addresses=tuple(addresses),
        health="" if status == "none" else status,
        stop_signal=parse_signal(config.get("StopSignal")),
        stop_timeout=float(timeout) if timeout is not None else 10.0,
        networks=tuple(attached),
    )
