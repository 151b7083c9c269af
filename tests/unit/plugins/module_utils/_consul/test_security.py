# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages from open to secure, and the rotation of the gossip key, against members that are slow, away or stubborn."""

from __future__ import annotations

import contextlib
import json
import typing as t

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._consul import security

OLD, NEW = "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=", "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU="


@pytest.mark.parametrize(
    ("config", "stage"),
    [
        (None, "absent"),
        ({}, "none"),
        ({"acl": {"enabled": False}}, "none"),
        ({"acl": {"enabled": True, "default_policy": "allow"}}, "offer"),
        ({"acl": {"enabled": True, "default_policy": "allow"}, "encrypt_verify_outgoing": False}, "offer"),
        ({"acl": {"enabled": True, "default_policy": "allow"}, "encrypt_verify_outgoing": True}, "use"),
        ({"acl": {"enabled": True, "default_policy": "deny"}, "encrypt_verify_outgoing": True}, "require"),
    ],
)
def test_the_stage_of_an_agent(config: dict[str, t.Any] | None, stage: str) -> None:
    assert security.stage_of(None if config is None else json.dumps(config)) == stage
    assert stage in security.STAGES


def test_a_broken_file_is_an_open_agent() -> None:
    assert security.stage_of("{") == "none"


@pytest.mark.parametrize(("text", "keys"), [(None, []), ("[]", []), ("{", []), ("{}", []), (json.dumps([NEW, OLD]), [NEW, OLD])])
def test_the_keys_of_an_agent(text: str | None, keys: list[str]) -> None:
    assert security.keys_of(text) == keys


@pytest.mark.parametrize(("text", "good"), [(OLD, True), ("", False), ("?", False), ("AAAA", False)])
def test_what_a_key_is(text: str, good: bool) -> None:
    assert security.is_key(text) is good


class Members(security.KeyringApi):
    """Three members; some of them miss the first of the calls."""

    def __init__(self, deaf: int = 0, messages: dict[str, str] | None = None) -> None:
        super().__init__("http://127.0.0.1:1", "")
        self.held = [{OLD} for _number in range(3)]
        self.used = [OLD] * 3
        self.deaf = deaf
        self.messages = messages or {}
        self.calls: list[str] = []

    def call(self, method: str, key: str = "") -> t.Any:
        if method != "GET":
            self.calls.append(method)
            for number in range(self.deaf, 3):
                if method == "POST":
                    self.held[number].add(key)
                elif method == "PUT":
                    self.used[number] = key
                else:
                    self.held[number].discard(key)
            return None
        every = {key for held in self.held for key in held}
        return [
            {
                "NumNodes": 3,
                "Keys": {key: sum(key in held for held in self.held) for key in every},
                "PrimaryKeys": {key: self.used.count(key) for key in set(self.used)},
                "Messages": self.messages,
            }
        ]


def test_a_rotation_ends_with_one_key_everywhere() -> None:
    members = Members()
    assert security.rotate(members, NEW, 3, 0) == 3
    assert members.calls == ["POST", "PUT", "DELETE"]
    assert members.held == [{NEW}] * 3 and members.used == [NEW] * 3
    assert security.rotate(members, NEW, 3, 0) == 0


def test_a_rotation_that_broke_off_goes_on() -> None:
    members = Members()
    for held in members.held:
        held.add(NEW)
    assert security.rotate(members, NEW, 3, 0) == 2
    assert members.calls == ["PUT", "DELETE"]


def test_nobody_uses_a_key_that_one_member_lacks() -> None:
    members = Members(deaf=1)
    with pytest.raises(security.GossipError, match="1 of 3 members do not hold the new key") as caught:
        security.rotate(members, NEW, 3, 0)
    assert members.calls == ["POST"]
    assert NEW not in str(caught.value) and OLD not in str(caught.value)


def test_a_member_that_does_not_answer_or_complains_stops_it() -> None:
    with pytest.raises(security.GossipError, match="only 3 of 4 members answer"):
        security.rotate(Members(), NEW, 4, 0)
    with pytest.raises(security.GossipError, match="n3: keyring is read-only"):
        security.rotate(Members(messages={"n3": "keyring is read-only"}), NEW, 3, 0)


def test_a_failed_member_is_not_locked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security.ConsulApi, "request", lambda _api, _path: [{"Name": "n1", "Status": 1}, {"Name": "n2", "Status": 4}])
    with pytest.raises(security.GossipError, match="n2 would miss the new key"):
        security.alive("http://127.0.0.1:1", "")


@pytest.mark.parametrize(
    ("text", "token"),
    [('{"acl": {"tokens": {"agent": "a", "dns": "d"}}}', "d"), ('{"acl": {"tokens": {"agent": "a"}}}', ""), ("[]", ""), ("{", ""), ("", ""), (None, "")],
)
def test_the_token_of_dns(text: str | None, token: str) -> None:
    assert security.dns_token(text) == token


@pytest.mark.parametrize(
    ("server", "members", "message"),
    [
        (True, [], ""),
        (True, None, ""),
        (True, [{"Name": "n1.dc1"}, {"Name": "n9.dc2"}], r"it knows n1\.dc1, n9\.dc2"),
        (False, [], "the agent on this host is a client"),
    ],
)
def test_a_key_goes_to_no_other_data_centre(monkeypatch: pytest.MonkeyPatch, server: bool, members: t.Any, message: str) -> None:
    answers = {"/v1/agent/self": {"Config": {"Server": server}}, "/v1/agent/members?wan=1": members}
    monkeypatch.setattr(security.ConsulApi, "request", lambda _self, path: answers[path])
    with pytest.raises(security.GossipError, match=message) if message else contextlib.nullcontext():
        security.alone("http://127.0.0.1:8500", "")
