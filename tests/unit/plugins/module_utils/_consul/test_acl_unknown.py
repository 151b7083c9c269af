# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an intruder with a management token can leave behind, and what of it is found, repaired, reported and ended."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl
from ansible_collections.trinode.platform.plugins.module_utils._consul import acl_held as holdings
from ansible_collections.trinode.platform.plugins.module_utils._consul import acl_sync as sync
from ansible_collections.trinode.platform.plugins.module_utils._consul import acl_unknown as foreign

UUIDS = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(9)]
RULES = 'node_prefix "" { policy = "read" }'
DNS = acl.Wanted("dns", UUIDS[1], RULES)
MANAGEMENT = {
    "AccessorID": "a0",
    "SecretID": UUIDS[0],
    "Description": "Bootstrap Token",
    "Policies": [{"ID": acl.MANAGEMENT_POLICY_ID, "Name": "global-management"}],
}
ANONYMOUS = {"AccessorID": acl.ANONYMOUS, "SecretID": "anonymous", "Description": "Anonymous Token"}
DNS_TOKEN = {"AccessorID": "a1", "SecretID": UUIDS[1], "Description": "trinode-dns", "Policies": [{"ID": "p1", "Name": "trinode-dns"}]}
BUILT_IN = [{"ID": identity, "Name": name} for identity, name in acl.BUILT_IN_POLICIES.items()]
OWN_POLICY = {"ID": "p1", "Name": "trinode-dns", "Rules": RULES}
DOOR = {
    "AccessorID": "a8",
    "SecretID": UUIDS[8],
    "Description": "nightly \x1b[2Jreport",
    "Policies": [{"ID": acl.MANAGEMENT_POLICY_ID, "Name": "renamed"}],
    "Roles": [{"ID": "r1", "Name": "ops"}],
    "CreateTime": "2026-11-30T02:00:00Z",
}
CLEAN = holdings.Holdings([*BUILT_IN, OWN_POLICY], [MANAGEMENT, ANONYMOUS, DNS_TOKEN])
ATTACKED = holdings.Holdings(
    [*BUILT_IN, OWN_POLICY, {"ID": "p7", "Name": "extra", "Description": ""}],
    [MANAGEMENT, ANONYMOUS, DNS_TOKEN, DOOR, {"AccessorID": "a9", "SecretID": UUIDS[7], "Description": "login", "AuthMethod": "door"}],
    [{"ID": "r1", "Name": "ops", "Policies": [{"ID": "p7", "Name": "extra"}]}],
    [{"Name": "door", "Type": "jwt"}],
    [{"ID": "b1", "AuthMethod": "door", "BindType": "role", "BindName": "ops", "Selector": "value.x==y"}],
)
KNOWN = {UUIDS[0], UUIDS[1]}


def test_a_cluster_of_the_platform_has_nothing_unknown() -> None:
    assert foreign.find_unknown(CLEAN, KNOWN) == ()
    assert acl.plan([DNS], CLEAN.policies, CLEAN.tokens, "dc1") == acl.Plan()


def test_each_kind_is_found_and_described_without_a_secret() -> None:
    found = {one.id: one for one in foreign.find_unknown(ATTACKED, KNOWN)}
    assert list(found) == ["door", "b1", "a8", "a9", "r1", "p7"], "an auth method ends before the tokens that it can make"
    assert found["a8"].text == ('token a8: description "nightly ?[2Jreport"; policies global-management; roles ops; made 2026-11-30T02:00:00Z'), (
        "the built-in policy keeps its name here, whatever it was renamed to"
    )
    assert "from auth method door" in found["a9"].text and "no rights" in found["a9"].text
    assert "door gives role ops where value.x==y" in found["b1"].text
    assert "policies extra" in found["r1"].text
    assert not any(secret in one.text for one in found.values() for secret in UUIDS)


def test_a_former_token_of_the_platform_is_not_unknown() -> None:
    """A rotation ends it without being asked."""
    former = {**DNS_TOKEN, "AccessorID": "a5", "SecretID": UUIDS[5]}
    held = CLEAN._replace(tokens=[*CLEAN.tokens, former])
    assert foreign.find_unknown(held, KNOWN) == ()
    assert acl.plan([DNS], held.policies, held.tokens, "dc1").surplus == (("a5", "trinode-dns"),)


def test_only_what_is_named_ends() -> None:
    found = foreign.find_unknown(ATTACKED, KNOWN)
    assert foreign.choose(found, []) == ()
    assert [one.id for one in foreign.choose(found, ["r1", "a8", "typo"])] == ["a8", "r1"]
    assert foreign.choose(found, ["all"]) == found
    assert foreign.missing(found, ["all", "a8", "typo"]) == ("typo",)


@pytest.mark.parametrize("own", ["a0", "a1", acl.ANONYMOUS, acl.MANAGEMENT_POLICY_ID])
def test_what_the_platform_needs_cannot_be_chosen(own: str) -> None:
    assert [word.partition(" ")[0] for word in foreign.protected(ATTACKED, KNOWN, ["a8", "all", own])] == [own]


@pytest.mark.parametrize(
    "rights",
    [
        {"Policies": [{"ID": acl.MANAGEMENT_POLICY_ID, "Name": "global-management"}]},
        {"Roles": [{"ID": "r1", "Name": "ops"}]},
        {"ServiceIdentities": [{"ServiceName": "billing"}]},
        {"NodeIdentities": [{"NodeName": "n1", "Datacenter": "dc1"}]},
        {"TemplatedPolicies": [{"TemplateName": "builtin/dns"}]},
    ],
)
def test_requests_without_a_token_lose_rights_that_somebody_gave_them(rights: dict[str, t.Any]) -> None:
    todo = acl.plan([DNS], CLEAN.policies, [MANAGEMENT, {**ANONYMOUS, **rights, "Description": "x"}, DNS_TOKEN], "dc1")
    assert todo.update == ((acl.ANONYMOUS, {"AccessorID": acl.ANONYMOUS, "Description": "Anonymous Token", "Policies": [], "NodeIdentities": []}),)


def test_a_policy_that_was_confined_to_another_datacenter_is_repaired() -> None:
    todo = acl.plan([DNS], [*BUILT_IN, {**OWN_POLICY, "Datacenters": ["dc9"]}], CLEAN.tokens, "dc1")
    assert todo.policies == ({"ID": "p1", "Name": "trinode-dns", "Rules": RULES},)


def test_a_built_in_policy_under_the_name_of_one_of_ours_gives_nobody_all_rights() -> None:
    """Tokens show the names of their policies, so the name alone would look right."""
    renamed = {"ID": acl.MANAGEMENT_POLICY_ID, "Name": "trinode-dns", "Rules": "everything"}
    token = {**DNS_TOKEN, "Policies": [{"ID": acl.MANAGEMENT_POLICY_ID, "Name": "trinode-dns"}]}
    todo = acl.plan([DNS], [renamed], [MANAGEMENT, ANONYMOUS, token], "dc1")
    assert todo.policies == (
        {"ID": acl.MANAGEMENT_POLICY_ID, "Name": "global-management", "Rules": "everything"},
        {"Name": "trinode-dns", "Rules": RULES},
    )
    assert [accessor for accessor, _body in todo.update] == ["a1"]
    assert todo.surplus_policies == ()


def test_the_report_names_what_to_do() -> None:
    found = [one.text for one in foreign.find_unknown(ATTACKED, KNOWN)]
    assert sync.report(sync.Outcome(made=["trinode-dns"]), purge=False) == []
    lines = sync.report(sync.Outcome(repaired=["Anonymous Token"], surplus=["trinode-old"], unknown=found[:1], ended=found[2:3], missing=["typo"]), purge=False)
    assert [line.partition(":")[0] for line in lines[:-1]] == [
        "Rights repaired",
        "Not wanted any more and still valid",
        "Ended",
        "Not in the cluster, so not ended",
        "Not made by the platform, and valid",
    ]
    assert "platform_end_unknown" in lines[-1]
    assert sync.report(sync.Outcome(surplus=["trinode-old"]), purge=True) == [], "a purge ended it"
