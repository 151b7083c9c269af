# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values that travel between the parts; nothing here reads or writes anything."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

# A registration that carries this key in its meta belongs to this engine; all others are somebody else's.
MARK = "registrator-managed"

# Names the protocol of a port that is not tcp, whatever tags and id say, so that no reader takes it for a tcp backend.
PROTOCOL = "registrator-protocol"

PASSING = "passing"
CRITICAL = "critical"

# Meta that the engine finds out by itself: Docker's label -> meta key.
ORIGINS = {
    "com.docker.compose.project": "compose_project",
    "com.docker.compose.service": "compose_service",
    "com.docker.stack.namespace": "swarm_stack",
    "com.docker.swarm.service.name": "swarm_service",
}


@dataclass(frozen=True)
class Binding:
    """One published binding: a port of the container on an address and port of the host."""

    port: int
    protocol: str
    host_ip: str
    host_port: int


@dataclass(frozen=True)
class Facts:
    """What matters of one container, taken from its inspect document."""

    id: str
    name: str
    image: str
    running: bool
    paused: bool
    restarting: bool
    pid: int
    created: str
    started_at: float
    labels: Mapping[str, str]
    env: Mapping[str, str]
    network_mode: str
    network_owner: str
    exposed: tuple[tuple[int, str], ...]
    bindings: tuple[Binding, ...]
    addresses: tuple[str, ...]
    health: str
    stop_signal: int
    stop_timeout: float
    # (network, address) of each network that the container is attached to.
    networks: tuple[tuple[str, str], ...] = ()

    @property
    def short_id(self) -> str:
        """The first twelve characters, as Docker prints them."""
        return self.id[:12]

    @property
    def serving(self) -> bool:
        """Whether the container can answer a request at all."""
        return self.running and not self.paused and not self.restarting


@dataclass(frozen=True)
class Settings:
    """The operator's choices that change what a container's facts mean."""

    hostname: str
    address: str
    internal: bool = False
    explicit: bool = False
    docker_health: bool = True
    allow_scripts: bool = False
    environment_meta: bool = True
    tags: tuple[str, ...] = ()
    # No container may claim these names, and those only in exactly this spelling. What looks like them is refused.
    reserved_names: tuple[str, ...] = ("consul",)
    protected_names: tuple[str, ...] = ()
    # Meta keys that readers of the catalogue understand, each with the tags of which a service needs one; none: any.
    known_meta: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Refusal:
    """A value that was not taken over, or a warning about it, and why; ``kind`` is a key of ``reasons.REASONS``."""

    key: str
    reason: str
    kind: str = ""


@dataclass(frozen=True)
class Verdict:
    """The status of a check that the engine itself writes, since Consul cannot know it: Docker's health, the end of the warm-up."""

    check_id: str
    status: str
    output: str = field(default="", compare=False)


@dataclass(frozen=True)
class Registration:
    """One service instance as it should stand in the agent."""

    id: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...]
    meta: Mapping[str, str]
    weight_passing: int
    weight_warning: int
    checks: tuple[Mapping[str, Any], ...]
    container: str
    default_id: bool = True
    verdicts: tuple[Verdict, ...] = ()
    protocol: str = "tcp"
    # Others may change the tags in the catalogue, and this engine leaves them alone.
    tag_override: bool = False

    def mark(self) -> str:
        """Return a short fingerprint of what the agent does not give back in a comparable form: the checks, and tags
        that others may change."""
        return self._mark

    @cached_property
    def _mark(self) -> str:
        # Every comparison needs it of every service.
        stable: list[Any] = [{key: value for key, value in check.items() if key != "Status"} for check in self.checks]
        if self.tag_override:
            stable.append(self.tags)
        return hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()[:12]

    def full_meta(self) -> dict[str, str]:
        """The meta that is written, the mark included."""
        meta = dict(self.meta)
        if self.protocol != "tcp":
            meta[PROTOCOL] = self.protocol
        meta[MARK] = self.mark()
        return meta

    def check_ids(self) -> tuple[str, ...]:
        """The ids of the checks that the agent must hold for this service."""
        return tuple(str(check["CheckID"]) for check in self.checks)

    def payload(self) -> dict[str, Any]:
        """The body for the agent's register call."""
        return {
            "ID": self.id,
            "Name": self.name,
            "Address": self.address,
            "Port": self.port,
            "Tags": list(self.tags),
            "Meta": self.full_meta(),
            "Weights": {"Passing": self.weight_passing, "Warning": self.weight_warning},
            "EnableTagOverride": self.tag_override,
            "Checks": [dict(check) for check in self.checks],
        }


@dataclass(frozen=True)
class Outcome:
    """What one container leads to: registrations, refused values, or the reason why there are none.

    ``until`` is when it changes by the mere passing of time, in seconds since the epoch.
    """

    registrations: tuple[Registration, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    until: float = math.inf
