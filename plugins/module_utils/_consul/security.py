# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a Consul agent is on its way from open to secure, and the key of its gossip.

Private to the collection. Pure, but for L(KeyringApi), which asks.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
import typing as t
import urllib.error
import urllib.request

from .cluster import ConsulApi

#: From nothing at all to nothing unguarded. V(absent) is a host without an agent.
STAGES = ("absent", "none", "offer", "use", "require")


class GossipError(Exception):
    """The key was not rotated; the message names members and remedy, and no key."""


def stage_of(config_text: str | None) -> str:
    """The stage that an agent's configuration file says."""
    if config_text is None:
        return "absent"
    try:
        config = json.loads(config_text)
    except ValueError:
        return "none"
    acl = config.get("acl") or {}
    if not acl.get("enabled"):
        return "none"
    if acl.get("default_policy") == "deny":
        return "require"
    return "use" if config.get("encrypt_verify_outgoing") else "offer"


def keys_of(keyring_text: str | None) -> list[str]:
    """The keys of an agent's keyring file. It encrypts with the first one, and reads what is encrypted with any."""
    try:
        keys = json.loads(keyring_text or "[]")
    except ValueError:
        return []
    return [str(key) for key in keys] if isinstance(keys, list) else []


def dns_token(tokens_text: str | None) -> str:
    """The token with which an agent asks for whoever asks by DNS, from its file of tokens. Empty without any."""
    try:
        return str(json.loads(tokens_text or "{}")["acl"]["tokens"]["dns"])
    except (ValueError, KeyError, TypeError):
        return ""


def is_key(text: str) -> bool:
    """Whether Consul takes this as a key."""
    try:
        return len(base64.b64decode(text, validate=True)) in (16, 24, 32)
    except (binascii.Error, ValueError):
        return False


class Ring(t.NamedTuple):
    """What the members of one gossip pool hold."""

    members: int
    #: How many members hold each key, and how many encrypt with it.
    keys: t.Mapping[str, int]
    primary: t.Mapping[str, int]
    complaints: t.Sequence[str]


def rings_of(answer: t.Sequence[t.Mapping[str, t.Any]]) -> list[Ring]:
    """The pools in an answer of /v1/operator/keyring."""
    return [
        Ring(
            int(pool.get("NumNodes") or 0),
            pool.get("Keys") or {},
            pool.get("PrimaryKeys") or {},
            [f"{member}: {text}" for member, text in sorted((pool.get("Messages") or {}).items())],
        )
        for pool in answer
    ]


def lacking(rings: t.Sequence[Ring], key: str, primary: bool = False, alone: bool = False) -> list[str]:
    """What keeps every member from holding a key, from encrypting with it, or from holding no other one; empty when all is so."""
    problems: list[str] = []
    if not rings or not all(ring.members for ring in rings):
        return ["no member answers"]
    for ring in rings:
        problems += ring.complaints
        holders = ring.keys.get(key, 0)
        if holders < ring.members:
            problems.append(f"{ring.members - holders} of {ring.members} members do not hold the new key")
        users = ring.primary.get(key, 0)
        if primary and users < ring.members:
            problems.append(f"{ring.members - users} of {ring.members} members do not encrypt with the new key")
        others = len([other for other in ring.keys if other != key])
        if alone and others:
            problems.append(f"{others} old {'key is' if others == 1 else 'keys are'} still held")
    return problems


class KeyringApi:
    """Consul's keyring, asked for through one agent and answered by every member."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self.token = token

    def call(self, method: str, key: str = "") -> t.Any:
        """One of list (GET), install (POST), use (PUT) and remove (DELETE)."""
        data = json.dumps({"Key": key}).encode() if key else None
        headers = {"X-Consul-Token": self.token} if self.token else {}
        # Other data centres do not know the token, and the question would fail with theirs.
        path = "/v1/operator/keyring?local-only=1" if method == "GET" else "/v1/operator/keyring"
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            # The body may repeat what was sent.
            body = error.read().decode("utf-8", "replace").strip()
            raise GossipError(f"Consul answered {error.code}: {body.replace(key, '(key)') if key else body}") from error
        except (OSError, ValueError) as error:
            raise GossipError(f"Consul does not answer: {error}") from error

    def rings(self) -> list[Ring]:
        """What the members hold now."""
        return rings_of(self.call("GET") or [])


def alive(url: str, token: str) -> int:
    """How many members the cluster has that are neither failed nor gone."""
    members = ConsulApi(url, token).request("/v1/agent/members") or []
    failed = sorted(str(member.get("Name")) for member in members if int(member.get("Status", 0)) == 4)
    if failed:
        raise GossipError(f"{', '.join(failed)} would miss the new key and be locked out: bring it back, or remove it from the cluster, and run again")
    return sum(int(member.get("Status", 0)) == 1 for member in members)


def alone(url: str, token: str) -> None:
    """Refuse to go on with a server that other data centres could know: Consul brings a key to their members and to the gossip between the sites, too."""
    api = ConsulApi(url, token)
    if not ((api.request("/v1/agent/self") or {}).get("Config") or {}).get("Server"):
        raise GossipError("the agent on this host is a client, and the server that it would ask may know other data centres: run this on a server")
    known = sorted(str(member.get("Name")) for member in api.request("/v1/agent/members?wan=1") or [])
    if known:
        raise GossipError(
            f"the server on this host takes part in the gossip between data centres (it knows {', '.join(known)}), so that the new key would go to the others,"
            " too: give it a configuration without them for that time, as playbooks/rotate_gossip_key.yml does"
        )


def rotate(api: KeyringApi, key: str, expected: int, seconds: float, sleep: t.Callable[[float], None] = time.sleep) -> int:
    """Let every member encrypt with this key and forget all others; returns how many calls changed something.

    Each step waits until all members made it. One that broke off goes on where it was.
    """
    if not is_key(key):
        raise GossipError("the new key is none that Consul takes: 16, 24 or 32 bytes in base64")

    def until(step: str, primary: bool = False, alone: bool = False) -> None:
        deadline = time.monotonic() + seconds
        while True:
            rings = api.rings()
            problems = lacking(rings, key, primary, alone)
            if not problems and any(ring.members < expected for ring in rings):
                problems = [f"only {min(ring.members for ring in rings)} of {expected} members answer"]
            if not problems:
                return
            if time.monotonic() > deadline:
                raise GossipError(f"{step} did not reach every member within {seconds:.0f} s: {'; '.join(problems)}. Repair these members and run again")
            sleep(0.5)

    calls = 0
    if lacking(api.rings(), key):
        api.call("POST", key)
        calls += 1
    until("the new key")
    if lacking(api.rings(), key, primary=True):
        api.call("PUT", key)
        calls += 1
    until("the use of the new key", primary=True)
    for old in sorted({old for ring in api.rings() for old in ring.keys if old != key}):
        api.call("DELETE", old)
        calls += 1
    until("the removal of the old key", primary=True, alone=True)
    return calls
