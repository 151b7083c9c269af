# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What decides how far a site is protected."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.trinode.platform.plugins.plugin_utils._preflight import security_rules as rules

NO_WAY = "set platform_secrets_directory to the absolute path"


@pytest.mark.parametrize(
    ("run", "skip", "expected"),
    [
        (["all"], [], False),
        ([], [], False),
        (["tagged"], [], False),
        (["consul_server"], [], False),
        (["consul_server_configure"], [], False),
        (["registrator", "consul_server"], [], False),
        (["all"], ["preflight"], False),
        (["all"], ["consul_server_health"], False),
        # Each role's arguments are validated with every tag.
        (["preflight"], [], False),
        (["preflight", "edge"], [], True),
        (["docker_daemon_dns"], [], True),
        (["consul_server_install"], [], True),
        (["edge"], [], True),
        (["registrator_configure"], [], True),
        (["untagged"], [], True),
        (["all"], ["consul_server"], True),
        (["all"], ["consul_server_configure"], True),
        (["consul_server"], ["consul_server_configure"], True),
    ],
)
def test_tags_that_use_secrets_and_make_none(run: list[str], skip: list[str], expected: bool) -> None:
    assert rules.uses_secrets(run, skip) is expected


@pytest.mark.parametrize(
    ("run", "skip", "start", "secure", "found"),
    [
        ([], [], "", True, []),
        (
            [],
            ["consul_acl"],
            "",
            True,
            ["--skip-tags consul_acl configures secure agents without their tokens; leave it out"],
        ),
        (
            ["consul_server"],
            ["consul_tls"],
            "",
            True,
            ["--skip-tags consul_tls configures secure agents without their certificates; leave it out"],
        ),
        ([], ["consul_acl"], "", False, []),
        ([], ["consul_acl", "consul_server"], "", True, []),
        (["edge"], ["consul_acl"], "", True, []),
        (
            [],
            [],
            "Later",
            False,
            ["--start-at-task 'Later' leaves out the checks at the beginning of the playbook; run the whole playbook"],
        ),
    ],
)
def test_parts_that_leave_out_a_check(
    run: list[str],
    skip: list[str],
    start: str,
    secure: bool,
    found: list[str],
) -> None:
    problems = [str(one) for one in rules.part_problems(run, skip, start, secure)]
    assert len(problems) == len(found)
    assert all(problem.startswith(text) for problem, text in zip(problems, found)), problems


def test_variables_that_only_the_playbooks_set() -> None:
    both = ["nginx_tls_certificates", "registrator_address"]
    is_security = "nginx_tls_certificates".__eq__
    assert rules.decided(False, ["consul_server_tokens"], both, is_security) == {
        "consul_server_security",
        "nginx_tls_certificates",
        "platform_on_the_way",
    }
    assert rules.decided(True, ["consul_server_tokens"], both, is_security) > {"consul_server_tokens"}


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"acl": {"default_policy": "allow"}}, ["acl.default_policy"]),
        (
            {"tls": {"defaults": {"verify_incoming": False}, "https": {"cert_file": "/x"}}},
            ["tls.defaults.verify_incoming", "tls.https.cert_file"],
        ),
        (
            {"addresses": {"http": "0.0.0.0"}, "encrypt_verify_incoming": False},
            ["addresses", "encrypt_verify_incoming"],
        ),
        ({"verify_incoming": False, "ports": {"http": 80}}, ["ports.http", "verify_incoming"]),
        (
            {
                "limits": {"rpc_rate": 5},
                "tls": {"defaults": {"tls_min_version": "TLSv1_3"}},
                "acl": {"token_ttl": "5s"},
            },
            [],
        ),
        ({}, []),
        (None, []),
        ("text", []),
    ],
)
def test_settings_that_replace_a_demand(settings: t.Any, found: list[str]) -> None:
    assert rules.weakening(settings) == found


@pytest.mark.parametrize(
    ("given", "places", "others", "found"),
    [
        ("", {"a": "/site", "b": "/site"}, [], ""),
        ("/own", {"a": "/site", "b": "/more"}, ["/more/secrets"], ""),
        ("~/own", {"a": ""}, [], ""),
        ("own", {"a": "/site"}, [], "platform_secrets_directory is 'own', which is not an absolute path"),
        (
            "",
            {"a": "/site", "b": "/more"},
            [],
            "in 2 directories, so the secrets may be in /more/secrets and /site/secrets",
        ),
        ("", {"a": "", "b": "/site"}, [], "a comes from no inventory file"),
        (
            "",
            {"a": "/site"},
            ["/more/secrets"],
            "next to several inventories of this run, in /site/secrets and /more/secrets",
        ),
    ],
)
def test_the_directory_of_the_secrets(given: str, places: dict[str, str], others: list[str], found: str) -> None:
    problems = list(rules.directory_problems(given, places, others))
    assert len(problems) == bool(found)
    for one in problems:
        assert found in one.message and one.remedy.startswith(NO_WAY) and one.check == "secrets", one


def test_internal_variables_that_decide_what_an_agent_demands() -> None:
    names = ["__consul_server_secure", "__consul_server_demands", "__consul_server_config_security"]
    assert all(map(rules.switches_demands, names))
    assert not any(map(rules.switches_demands, ["__consul_server_tls_directory", "consul_server_secure", "__secure"]))
