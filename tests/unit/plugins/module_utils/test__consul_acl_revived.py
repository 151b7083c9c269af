# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restored snapshot revived, and what only looks so."""

from __future__ import annotations

import typing as t

from ansible_collections.trinode.platform.plugins.module_utils import _consul_acl_revived as revived
from ansible_collections.trinode.platform.plugins.module_utils._consul_acl import AclApi

BEFORE = [
    revived.Entry("token", "t1", "Management token", own=True),
    revived.Entry("token", "t2", "trinode-dns"),
    revived.Entry("policy", "p1", "trinode-dns"),
    revived.Entry("policy", "00000000-0000-0000-0000-000000000001", "global-management"),
]


def test_what_was_not_there_before_is_revived() -> None:
    stolen, door = (
        revived.Entry("token", "t9", "stolen", ("policy global-management",)),
        revived.Entry("auth method", "door", ""),
    )
    found = revived.compare(revived.known(BEFORE), [*BEFORE, stolen, door])
    assert found == (True, (stolen, door))
    assert str(stolen) == "token t9 'stolen' (policy global-management)"


def test_what_the_platform_makes_again_is_not_revived() -> None:
    """After a restore the tokens of the secrets have new accessors; the present management token may be new."""
    again = [
        revived.Entry("token", "t3", "trinode-dns"),
        revived.Entry("token", "t4", "Bootstrap Token (Global Management)", own=True),
    ]
    assert revived.compare(revived.known(BEFORE), [*BEFORE[1:], *again]) == (True, ())


def test_another_cluster_has_other_policies() -> None:
    theirs = [revived.Entry("policy", "p7", "trinode-dns"), revived.Entry("token", "t7", "of a program")]
    assert revived.compare(revived.known(BEFORE), theirs) == (False, (theirs[1],))
    assert not revived.compare({}, BEFORE).same_cluster


class Recorder:
    """Takes the calls; the real Consul gets them in tests/agent."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def call(self, _method: str, path: str) -> None:
        self.paths.append(path)


def test_access_ends_before_what_grants_it() -> None:
    recorder = Recorder()
    mixed = [revived.Entry("policy", "p", ""), revived.Entry("auth method", "a/b", ""), revived.Entry("token", "t", "")]
    revived.end(t.cast("AclApi", recorder), mixed)
    assert recorder.paths == ["/v1/acl/token/t", "/v1/acl/auth-method/a%2Fb", "/v1/acl/policy/p"]
