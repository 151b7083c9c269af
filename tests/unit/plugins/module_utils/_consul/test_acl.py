# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies and tokens: what is planned for what there is."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl

UUIDS = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(9)]
RULES = 'node_prefix "" { policy = "read" }'
DNS = acl.Wanted("dns", UUIDS[1], RULES)
AGENT = acl.Wanted("agent-n1", UUIDS[2], node="n1")
POLICY = {"ID": "p1", "Name": "trinode-dns", "Rules": RULES + "\n"}
DNS_TOKEN = {"AccessorID": "a1", "SecretID": UUIDS[1], "Description": "trinode-dns", "Policies": [{"ID": "p1", "Name": "trinode-dns"}]}
AGENT_TOKEN = {"AccessorID": "a2", "SecretID": UUIDS[2], "Description": "trinode-agent-n1", "NodeIdentities": [{"NodeName": "n1", "Datacenter": "dc1"}]}
FOREIGN = {"AccessorID": "a9", "SecretID": UUIDS[8], "Description": "somebody's"}


def test_a_new_cluster_gets_everything() -> None:
    todo = acl.plan([DNS, AGENT], [], [FOREIGN], "dc1")
    assert todo.policies == ({"Name": "trinode-dns", "Rules": RULES},)
    assert [token["Description"] for token in todo.create] == ["trinode-dns", "trinode-agent-n1"]
    assert todo.create[1]["NodeIdentities"] == [{"NodeName": "n1", "Datacenter": "dc1"}]
    assert todo.create[0]["SecretID"] == UUIDS[1]
    assert not todo.update and not todo.surplus


def test_a_second_run_does_nothing() -> None:
    foreign_policy = {"ID": "p0", "Name": "global-management"}
    assert acl.plan([DNS, AGENT], [POLICY, foreign_policy], [DNS_TOKEN, AGENT_TOKEN, FOREIGN], "dc1") == acl.Plan()


def test_other_rules_are_an_update() -> None:
    todo = acl.plan([DNS._replace(rules='node "x" { policy = "read" }')], [POLICY], [DNS_TOKEN], "dc1")
    assert todo.policies == ({"ID": "p1", "Name": "trinode-dns", "Rules": 'node "x" { policy = "read" }'},)
    assert not todo.create


@pytest.mark.parametrize(
    "change",
    [{"Policies": []}, {"Policies": [{"Name": "trinode-dns"}, {"Name": "global-management"}]}, {"Description": "x"}, {"Roles": [{"Name": "x"}]}],
)
def test_a_token_with_other_rights_is_put_right(change: dict[str, t.Any]) -> None:
    todo = acl.plan([DNS], [POLICY], [{**DNS_TOKEN, **change}], "dc1")
    assert [accessor for accessor, _body in todo.update] == ["a1"]
    assert todo.update[0][1]["Policies"] == [{"Name": "trinode-dns"}]


def test_what_a_rotation_left_is_surplus_and_a_foreign_token_is_not() -> None:
    old = {**DNS_TOKEN, "AccessorID": "a0", "SecretID": UUIDS[5]}
    gone = {"AccessorID": "a7", "SecretID": UUIDS[6], "Description": "trinode-agent-n9"}
    todo = acl.plan([DNS], [POLICY, {"ID": "p7", "Name": "trinode-old", "Rules": ""}], [DNS_TOKEN, old, gone, FOREIGN], "dc1")
    assert todo.surplus == (("a0", "trinode-dns"), ("a7", "trinode-agent-n9"))
    assert todo.surplus_policies == (("p7", "trinode-old"),)
    assert not todo.create


@pytest.mark.parametrize(
    ("tokens", "management", "message"),
    [
        ([DNS, DNS._replace(secret=UUIDS[3])], UUIDS[0], "given twice"),
        ([DNS, AGENT._replace(secret=UUIDS[1])], UUIDS[0], "the same secret"),
        ([DNS], UUIDS[1], "the same secret"),
        ([DNS._replace(secret="hunter2")], UUIDS[0], "'dns' is no UUID"),
        ([DNS], "", "'management' is no UUID"),
        ([DNS._replace(name="a b")], UUIDS[0], "no usable name"),
        ([DNS._replace(rules="")], UUIDS[0], "no right at all"),
    ],
)
def test_refused_before_anything_is_sent(tokens: list[acl.Wanted], management: str, message: str) -> None:
    with pytest.raises(acl.AclError, match=message) as caught:
        acl.check(tokens, management)
    assert not any(token.secret in str(caught.value) for token in tokens)


class Cluster(acl.AclApi):
    """Answers by a script instead of by a network."""

    def __init__(self, answers: dict[str, t.Any]) -> None:
        super().__init__("http://127.0.0.1:1", UUIDS[0])
        self.answers = answers
        self.asked: list[str] = []

    def call(self, method: str, path: str, body: t.Any = None, anonymous: bool = False) -> t.Any:  # noqa: ARG002 - as the real one
        self.asked.append(f"{method} {path}")
        answer = self.answers.get(path)
        if isinstance(answer, Exception):
            raise answer
        return answer


LEADER = {"/v1/status/leader": "192.0.2.1:8300"}
UNKNOWN = acl.Refused(403, "token does not exist: ACL not found")


def test_a_cluster_is_bootstrapped_once() -> None:
    own = {"Policies": [{"ID": acl.MANAGEMENT_POLICY_ID, "Name": "renamed"}]}
    assert acl.bootstrap(Cluster({**LEADER, "/v1/acl/token/self": own}), 0) == acl.Bootstrap("there", leader="192.0.2.1")
    assert acl.bootstrap(Cluster({**LEADER, "/v1/acl/token/self": UNKNOWN, "/v1/acl/bootstrap": {}}), 0).state == "made"
    dry = Cluster({**LEADER, "/v1/acl/token/self": UNKNOWN})
    assert acl.bootstrap(dry, 0, dry=True).state == "made"
    assert "PUT /v1/acl/bootstrap" not in dry.asked


def test_a_lost_management_token_is_told_with_what_consul_wants_for_another_one() -> None:
    taken = acl.Refused(403, "Permission denied: ACL bootstrap no longer allowed (reset index: 18)")
    found = acl.bootstrap(Cluster({**LEADER, "/v1/acl/token/self": UNKNOWN, "/v1/acl/bootstrap": taken}), 0)
    assert found == acl.Bootstrap("lost", 18, "192.0.2.1")


def test_a_leader_that_has_not_read_its_tokens_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = acl.Refused(403, "Permission denied: ACL bootstrap no longer allowed (reset index: 18)")
    cluster = Cluster({**LEADER, "/v1/acl/token/self": UNKNOWN, "/v1/acl/bootstrap": taken})

    def read_the_log(_seconds: float) -> None:
        cluster.answers["/v1/acl/token/self"] = {"Policies": [{"ID": acl.MANAGEMENT_POLICY_ID}]}

    monkeypatch.setattr(acl.time, "sleep", read_the_log)
    assert acl.bootstrap(cluster, 60).state == "there"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"/v1/status/leader": ""}, "no leader"),
        ({**LEADER, "/v1/acl/token/self": acl.Refused(401, "ACL support disabled")}, "runs without ACLs"),
        ({**LEADER, "/v1/acl/token/self": {"Policies": []}}, "may not manage"),
        ({**LEADER, "/v1/acl/token/self": {"Policies": [{"ID": "p9", "Name": "global-management"}]}}, "may not manage"),
        ({**LEADER, "/v1/acl/token/self": UNKNOWN, "/v1/acl/bootstrap": acl.Refused(500, "not yet")}, "took no management token"),
        ({**LEADER, "/v1/acl/token/self": UNKNOWN, "/v1/acl/bootstrap": acl.Refused(403, acl.BLOCKED)}, "run again for all servers"),
    ],
)
def test_a_cluster_that_takes_no_token_says_why(answers: dict[str, t.Any], message: str) -> None:
    with pytest.raises(acl.AclError, match=message):
        acl.bootstrap(Cluster(answers), 0)
