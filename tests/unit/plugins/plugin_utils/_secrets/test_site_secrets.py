# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a site may get its first secrets."""

from __future__ import annotations

import pytest

from ansible_collections.trinode.platform.plugins.plugin_utils._secrets.site_secrets import is_new_cluster, secrets_fault

TOKEN = ["consul_token_management.txt"]


@pytest.mark.parametrize(
    ("stages", "missing", "begun", "left_out"),
    [
        ({"a": "absent", "b": "absent"}, TOKEN, False, []),
        # On the way from an open cluster.
        ({"a": "none", "b": "none"}, TOKEN, False, []),
        ({"a": "require", "b": "absent"}, [], True, []),
        ({"b": "absent"}, [], True, ["a"]),
    ],
)
def test_these_may(stages: dict[str, str], missing: list[str], begun: bool, left_out: list[str]) -> None:
    assert secrets_fault("/s", stages, missing, begun, left_out) == ""


@pytest.mark.parametrize(
    ("stages", "missing", "begun", "left_out", "text"),
    [
        ({"a": "require", "b": "require"}, TOKEN, False, [], "a and b belong to a secure cluster, and /s on this machine has no secrets; bring"),
        ({"a": "absent", "b": "require"}, TOKEN, False, [], "b belongs to a secure cluster"),
        ({"a": "offer"}, TOKEN, False, [], "a belongs to a secure cluster"),
        ({"a": "use"}, TOKEN, True, [], "/s on this machine has no consul_token_management.txt; bring"),
        ({"b": "absent"}, TOKEN, False, ["a"], "a may have those of a running cluster; run site.yml once for all hosts, without --limit"),
    ],
)
def test_these_may_not(stages: dict[str, str], missing: list[str], begun: bool, left_out: list[str], text: str) -> None:
    assert text in secrets_fault("/s", stages, missing, begun, left_out)


@pytest.mark.parametrize(
    ("stages", "new"),
    [
        ({"a": "absent", "b": "absent"}, True),
        # On the way from an open cluster, and with clients that a former cluster has left behind.
        ({"a": "none", "b": "absent", "c": "require"}, True),
        ({"a": "require", "b": "absent"}, False),
        ({"a": "offer", "b": "none"}, False),
        # Nobody knows how far the server is that this run leaves out.
        ({"a": "absent"}, False),
        ({}, False),
    ],
)
def test_a_first_token_is_for_servers_that_all_start_without_acls(stages: dict[str, str], new: bool) -> None:
    assert is_new_cluster(stages, ["a", "b"]) is new


def test_a_site_without_servers_is_no_new_cluster() -> None:
    assert not is_new_cluster({"c": "absent"}, [])
