# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restored snapshot revived, and what only looks so."""

from __future__ import annotations

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl
from ansible_collections.trinode.platform.plugins.module_utils._consul import acl_revived as revived
from ansible_collections.trinode.platform.plugins.module_utils._consul.acl_held import Holdings

MANAGEMENT = {"AccessorID": "t1", "SecretID": "m", "Description": "Management token"}
DNS = {"AccessorID": "t2", "SecretID": "d", "Description": "trinode-dns"}
PROGRAM = {"AccessorID": "t3", "SecretID": "p", "Description": "of a program"}
POLICIES = [{"ID": acl.MANAGEMENT_POLICY_ID, "Name": acl.MANAGEMENT_POLICY}, {"ID": "p1", "Name": "trinode-dns"}]
STOLEN = {"AccessorID": "t9", "SecretID": "s", "Description": "stolen", "Policies": [{"ID": acl.MANAGEMENT_POLICY_ID}]}
BEFORE = Holdings(POLICIES, [MANAGEMENT, DNS, PROGRAM])


def test_what_was_not_there_before_is_revived() -> None:
    now = BEFORE._replace(tokens=[*BEFORE.tokens, STOLEN], auth_methods=[{"Name": "door", "Type": "jwt"}])
    found = revived.compare(revived.known(BEFORE, "m"), now, "m")
    assert found.same_cluster
    assert [one.path for one in found.revived] == ["/v1/acl/auth-method/door", "/v1/acl/token/t9"]
    assert found.revived[1].text == 'token t9: description "stolen"; policies global-management'


def test_what_is_remembered_has_no_secret() -> None:
    assert revived.known(BEFORE, "m") == {"token": ["t3"], "platform": ["p1"]}


def test_what_the_platform_makes_again_is_not_revived() -> None:
    """After a restore the tokens of the secrets have new accessors; the present management token may be new."""
    again = [{**DNS, "AccessorID": "t4"}, {"AccessorID": "t5", "SecretID": "n", "Description": "Bootstrap Token (Global Management)"}]
    now = BEFORE._replace(tokens=[PROGRAM, *again])
    assert revived.compare(revived.known(BEFORE, "m"), now, "n") == (True, ())


def test_an_identity_of_another_kind_is_another_entry() -> None:
    now = BEFORE._replace(roles=[{"ID": "t3", "Name": "role"}])
    assert [one.kind for one in revived.compare(revived.known(BEFORE, "m"), now, "m").revived] == ["role"]


def test_another_cluster_has_other_policies() -> None:
    theirs = Holdings([POLICIES[0], {"ID": "p7", "Name": "trinode-dns"}], [MANAGEMENT, STOLEN])
    found = revived.compare(revived.known(BEFORE, "m"), theirs, "m")
    assert not found.same_cluster
    assert [one.id for one in found.revived] == ["t9"]
    assert not revived.compare({}, BEFORE, "m").same_cluster
