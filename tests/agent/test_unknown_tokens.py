# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an intruder with a management token leaves in a real Consul cluster: found, repaired, reported, and ended with a word."""

from __future__ import annotations

import json
import typing as t
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import Consul, tool
from local_play import play

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl
from ansible_collections.trinode.platform.plugins.module_utils._consul.acl_sync import Request, report, sync

MANAGEMENT, DNS, AGENT = (str(uuid.uuid4()) for _number in range(3))
READS = 'node_prefix "" { policy = "read" }\nservice_prefix "" { policy = "read" }'
WANTED = [acl.Wanted("dns", DNS, READS), acl.Wanted("agent-n", AGENT, node="n")]
REQUEST = Request(WANTED, "dc1", purge=True)
# Consul wants a key for an auth method that checks tokens of another system.
PUBLIC_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
PUBLIC_PEM = PUBLIC_KEY.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Consul]:
    """An agent that demands tokens, with the platform's."""
    one = Consul(tool("consul", "CONSUL_BIN"), tmp_path_factory.mktemp("unknown"), acl={"enabled": True, "default_policy": "deny"})
    try:
        api = acl.AclApi(f"http://{one.address}", MANAGEMENT)
        assert acl.bootstrap(api, 30).state == "made"
        sync(api, REQUEST)
        yield one
    finally:
        one.stop()


@pytest.fixture
def api(agent: Consul) -> t.Iterator[acl.AclApi]:
    """The cluster with what the platform made, and nothing else before and after."""
    one = acl.AclApi(f"http://{agent.address}", MANAGEMENT)
    assert report(sync(one, REQUEST), purge=True) == [], "a new cluster has nothing that the platform did not make"
    yield one
    sync(one, REQUEST._replace(end=["all"]))


def status(api: acl.AclApi, token: str, path: str = "/v1/acl/tokens") -> int:
    """The answer to a caller with this token; without one, to anybody."""
    try:
        acl.AclApi(api.api.url, token).call("GET", path, anonymous=not token)
    except acl.Refused as refused:
        return refused.status
    return 200


def intrude(api: acl.AclApi) -> dict[str, str]:
    """Leave one of each kind behind; returns the ids by kind, and the secret of the token."""
    secret = str(uuid.uuid4())
    policy = api.call("PUT", "/v1/acl/policy", {"Name": "metrics", "Description": "of the metrics", "Rules": 'acl = "write"'})["ID"]
    role = api.call("PUT", "/v1/acl/role", {"Name": "ops", "Policies": [{"ID": policy}]})["ID"]
    body = {"SecretID": secret, "Description": "nightly\u001b[2J report", "Roles": [{"ID": role}], "ServiceIdentities": [{"ServiceName": "billing"}]}
    token = api.call("PUT", "/v1/acl/token", body)["AccessorID"]
    config = {"JWTValidationPubKeys": [PUBLIC_PEM], "BoundIssuer": "x", "ClaimMappings": {"name": "name"}}
    api.call("PUT", "/v1/acl/auth-method", {"Name": "door", "Type": "jwt", "Config": config})
    rule = api.call("PUT", "/v1/acl/binding-rule", {"AuthMethod": "door", "BindType": "role", "BindName": "ops"})["ID"]
    return {"policy": policy, "role": role, "token": token, "auth method": "door", "binding rule": rule, "secret": secret}


def test_each_kind_is_reported_and_ends_only_with_a_word(api: acl.AclApi) -> None:
    left = intrude(api)
    secret = left.pop("secret")
    assert status(api, secret) == 200, "the intruder is in"
    outcome = sync(api, REQUEST)
    lines = {line.partition(":")[0]: line for line in outcome.unknown}
    assert set(lines) == {f"{kind} {identity}" for kind, identity in left.items()}
    token = lines[f"token {left['token']}"]
    assert '"nightly?[2J report"' in token and "roles ops" in token and "service identities billing" in token and "; made 20" in token
    assert "door gives role ops" in lines[f"binding rule {left['binding rule']}"]
    assert secret not in "\n".join(report(outcome, purge=True))
    assert status(api, secret) == 200, "nobody has asked to end it"

    outcome = sync(api, REQUEST._replace(end=[left["token"], str(uuid.uuid4())]))
    assert len(outcome.ended) == 1 and len(outcome.missing) == 1
    assert status(api, secret) == 403
    assert len(outcome.unknown) == 4
    outcome = sync(api, REQUEST._replace(end=["all"]))
    assert len(outcome.ended) == 4 and not outcome.unknown
    assert report(sync(api, REQUEST), purge=True) == []


def test_rights_of_requests_without_a_token_are_taken_away(api: acl.AclApi) -> None:
    for rights in ({"Policies": [{"Name": "global-management"}]}, {"ServiceIdentities": [{"ServiceName": "billing"}]}):
        api.call("PUT", f"/v1/acl/token/{acl.ANONYMOUS}", {"Description": "Anonymous Token", **rights})
        assert status(api, "", "/v1/acl/tokens") == (200 if "Policies" in rights else 403)
        outcome = sync(api, REQUEST._replace(purge=False))
        assert list(outcome.repaired) == ["Anonymous Token"] and not outcome.unknown
        assert "Rights repaired: Anonymous Token" in report(outcome, purge=False)[0]
        assert status(api, "", "/v1/acl/tokens") == status(api, "", "/v1/kv/x") == 403


def test_changed_policies_of_the_platform_are_repaired(api: acl.AclApi) -> None:
    (dns,) = [policy for policy in api.policies() if policy["Name"] == "trinode-dns"]
    for change in ({"Rules": 'acl = "write"'}, {"Datacenters": ["dc9"]}):
        api.call("PUT", f"/v1/acl/policy/{dns['ID']}", {**dns, **change})
        if "Datacenters" in change:
            assert acl.AclApi(api.api.url, DNS).call("GET", "/v1/catalog/nodes") == [], "the token has no right left in this datacenter"
        outcome = sync(api, REQUEST)
        assert list(outcome.repaired) == ["trinode-dns"]
        assert status(api, DNS) == 403
        assert len(acl.AclApi(api.api.url, DNS).call("GET", "/v1/catalog/nodes")) == 1


def test_a_right_to_everything_under_a_harmless_name_is_repaired(api: acl.AclApi) -> None:
    """Consul lets whoever writes ACLs rename its own policy, and a token shows the names of its policies only."""
    (dns,) = [policy for policy in api.policies() if policy["Name"] == "trinode-dns"]
    builtin = api.call("GET", f"/v1/acl/policy/{acl.MANAGEMENT_POLICY_ID}")
    api.call("PUT", f"/v1/acl/policy/{dns['ID']}", {**dns, "Name": "former"})
    api.call("PUT", f"/v1/acl/policy/{acl.MANAGEMENT_POLICY_ID}", {**builtin, "Name": "trinode-dns"})
    (token,) = [one for one in api.tokens() if one["SecretID"] == DNS]
    api.call("PUT", f"/v1/acl/token/{token['AccessorID']}", {**token, "Policies": [{"ID": acl.MANAGEMENT_POLICY_ID}]})
    assert status(api, DNS) == 200
    outcome = sync(api, REQUEST)
    assert "global-management" in outcome.repaired
    assert status(api, DNS) == 403 and len(acl.AclApi(api.api.url, DNS).call("GET", "/v1/catalog/nodes")) == 1
    assert [line for line in outcome.unknown if line.startswith(f"policy {dns['ID']}")], "the renamed one is nobody's now"


@pytest.mark.parametrize("own", [acl.ANONYMOUS, acl.MANAGEMENT_POLICY_ID, "dns"])
def test_what_the_platform_needs_does_not_end(api: acl.AclApi, own: str) -> None:
    left = intrude(api)
    accessor = next(token["AccessorID"] for token in api.tokens() if token["SecretID"] == DNS) if own == "dns" else own
    with pytest.raises(acl.AclError, match="cannot be ended"):
        sync(api, REQUEST._replace(end=[left["token"], accessor]))
    assert status(api, left["secret"]) == 200, "nothing was ended"


class Watched(acl.AclApi):
    """The platform's calls, after each of which an intruder calls, too."""

    def __init__(self, api: acl.AclApi, intruder: t.Callable[[], None]) -> None:
        super().__init__(api.api.url, str(api.api.token))
        self.intruder = intruder

    def call(self, method: str, path: str, body: t.Any = None, anonymous: bool = False) -> t.Any:
        answer = super().call(method, path, body, anonymous)
        if method != "GET":
            self.intruder()
        return answer


def test_what_an_intruder_makes_during_the_run_ends_too(api: acl.AclApi) -> None:
    intruder = acl.AclApi(api.api.url, intrude(api)["secret"])

    def heir() -> None:
        try:
            intruder.call("PUT", "/v1/acl/token", {"Description": "heir", "Policies": [{"Name": "global-management"}]})
        except acl.Refused:
            return

    outcome = sync(Watched(api, heir), REQUEST._replace(end=["all"]))
    assert len([line for line in outcome.ended if '"heir"' in line]) >= 1
    assert not outcome.unknown and sorted(token["Description"] for token in api.tokens() if token["SecretID"] not in (MANAGEMENT, "anonymous")) == [
        "trinode-agent-n",
        "trinode-dns",
    ]


def test_somebody_who_keeps_writing_is_an_error(api: acl.AclApi) -> None:
    def again() -> None:
        api.call("PUT", f"/v1/acl/token/{acl.ANONYMOUS}", {"Description": "Anonymous Token", "Policies": [{"Name": "global-management"}]})

    again()
    with pytest.raises(acl.AclError, match="somebody else changes policies and tokens at the same time: Anonymous Token"):
        sync(Watched(api, again), REQUEST)


def test_a_rotation_of_the_management_token_that_was_interrupted_ends_the_former_one(api: acl.AclApi) -> None:
    """Each of the two secrets works between the two calls; the next run completes it with either."""
    successor = str(uuid.uuid4())
    api.call("PUT", "/v1/acl/token", {"SecretID": successor, "Description": "Management token", "Policies": [{"ID": acl.MANAGEMENT_POLICY_ID}]})
    new, changed = acl.replace_management(acl.AclApi(api.api.url, successor), MANAGEMENT, successor, 10)
    try:
        assert changed and status(api, MANAGEMENT) == 403 and status(api, successor) == 200
        assert acl.replace_management(new, MANAGEMENT, successor, 10)[1] is False
    finally:
        back, _changed = acl.replace_management(new, successor, MANAGEMENT, 10)
    assert status(api, successor) == 403 and back.api.token == MANAGEMENT


def test_nobody_learns_a_secret_from_the_report(api: acl.AclApi) -> None:
    left = intrude(api)
    outcome = sync(api, REQUEST)
    secrets = [str(token["SecretID"]) for token in api.tokens() if token["SecretID"] != "anonymous"]
    assert left["secret"] in secrets
    assert not [secret for secret in secrets if secret in json.dumps(outcome._asdict())]


PLAY = """
- name: Tokens
  hosts: all
  gather_facts: false
  roles: [trinode.platform.consul_acl]
"""


def told(api: acl.AclApi, directory: Path, *arguments: str, **variables: t.Any) -> str:
    """Run the role as the playbooks do, and return what the operator reads."""
    tokens = [{"name": one.name, "secret": one.secret, "rules": one.rules, "node": one.node} for one in WANTED]
    given = {"consul_acl_url": api.api.url, "consul_acl_management_token": MANAGEMENT, "consul_acl_tokens": tokens, **variables}
    done = play(directory, PLAY, *arguments, **given)
    assert done.status == 0, done.output
    return done.text


def test_the_operator_reads_it_in_the_output_of_the_playbook(api: acl.AclApi, tmp_path: Path) -> None:
    output = told(api, tmp_path)
    assert "changed=0" in output and "Not made by the platform" not in output
    left = intrude(api)
    api.call("PUT", f"/v1/acl/token/{acl.ANONYMOUS}", {"Description": "Anonymous Token", "Policies": [{"Name": "global-management"}]})
    for arguments in (("--check",), ()):
        output = told(api, tmp_path, "-vvv", *arguments)
        assert "changed=1" in output
        assert "Rights repaired: Anonymous Token" in output and f"Not made by the platform, and valid: token {left['token']}" in output
        assert left["secret"] not in output and MANAGEMENT not in output
        assert status(api, "") == (200 if arguments else 403)
    output = told(api, tmp_path)
    assert "changed=0" in output and f"Not made by the platform, and valid: token {left['token']}" in output
    output = told(api, tmp_path, consul_acl_end_unknown=["all"])
    assert "changed=1" in output and f"Ended: token {left['token']}" in output and "Not made by the platform" not in output
    assert status(api, left["secret"]) == 403
    output = told(api, tmp_path, consul_acl_end_unknown=["all"])
    assert "changed=0" in output and "Ended" not in output
