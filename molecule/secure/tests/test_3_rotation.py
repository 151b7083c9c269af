# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation of the gossip key, of the tokens, of the certificates and of their authority, while names are asked for and containers come and go."""

from __future__ import annotations

import subprocess

import lab
import pytest
import registration
import secure
import traffic


@pytest.fixture(scope="module", autouse=True)
def _service() -> None:
    """What callers ask for."""
    for node in lab.NODES:
        traffic.start_service(node)
    traffic.wait_until_served(*lab.NODES)


def healthy() -> None:
    """A node at a time: the cluster is whole and a container gets in and out of the catalogue."""

    def tolerance() -> int:
        return int(secure.ask("consul-1", "/v1/operator/autopilot/health", secure.token("operator")).json()["FailureTolerance"])

    lab.wait_for(lambda: tolerance() == 1, 30, "the cluster survives the loss of a server", lambda: lab.journal("consul-1", "consul"))
    node = registration.Node("consul-2", "rot-")
    try:
        node.start("web", "-p 8080 --label SERVICE_NAME=rot-web")
        lab.wait_for(
            lambda: len(secure.ask("consul-1", "/v1/catalog/service/rot-web", secure.token("operator")).json()) == 1,
            15,
            "a new container is in the catalogue",
            lambda: lab.journal("consul-2", "registrator", "consul"),
        )
    finally:
        node.run("docker ps -aq --filter name=^rot- | xargs -r docker rm -f")


def test_the_key_of_the_gossip() -> None:
    old = secure.secret("consul_gossip_key")
    with traffic.Callers() as callers:
        run = secure.play("rotate_gossip_key")
    assert run.status == 0, run.output[-4000:]
    new = secure.secret("consul_gossip_key")
    assert new != old
    (ring,) = secure.ask("consul-1", "/v1/operator/keyring", secure.token("keyring")).json()
    assert ring["Keys"] == ring["PrimaryKeys"] == {new: 3}
    assert not (lab.SECRETS / "consul_gossip_key.next.txt").exists()
    callers.saw_no_failure()
    # A restart reads the key from the agent's file.
    lab.run("consul-3", "systemctl restart consul")
    healthy()


def test_the_tokens() -> None:
    names = [path.name.removeprefix("consul_token_").removesuffix(".txt") for path in lab.SECRETS.glob("consul_token_*.txt")]
    old = {name: secure.token(name) for name in names}
    node = registration.Node("consul-3", "tok-")
    node.start("web", "-p 8080 --label SERVICE_NAME=tok-web --label SERVICE_CHECK_TTL=600s --label SERVICE_CHECK_INITIAL_STATUS=passing")
    try:
        lab.wait_for(lambda: secure.ask("consul-1", "/v1/catalog/service/tok-web", old["operator"]).json(), 10, "the container is in the catalogue")
        with traffic.Callers() as callers:
            run = secure.play("rotate_tokens")
        assert run.status == 0, run.output[-4000:]
        for name, token in old.items():
            assert secure.token(name) != token
            assert secure.ask("consul-1", "/v1/acl/token/self", token).status == 403, f"the old token {name} is still valid"
            assert secure.ask("consul-1", "/v1/acl/token/self", secure.token(name)).status == 200
        callers.saw_no_failure()
        # The agent changes the check of a service with the token that it keeps with it, so this tells whether it was written again.
        identity = next(key for key in secure.ask("consul-3", "/v1/agent/services", secure.token("operator")).json() if ":tok-web:" in key)
        assert secure.ask("consul-3", f"/v1/agent/check/fail/service:{identity}", secure.token("registrator-consul-3"), "PUT").status == 200
        lab.wait_for(
            lambda: secure.ask("consul-1", "/v1/health/checks/tok-web", secure.token("operator")).json()[0]["Status"] == "critical",
            15,
            "a change of the check reaches the catalogue",
            lambda: lab.journal("consul-3", "consul"),
        )
    finally:
        node.run("docker ps -aq --filter name=^tok- | xargs -r docker rm -f")
    healthy()


def test_what_an_intruder_left_behind() -> None:
    """With a server's backup token: a token of one's own, and all rights for requests without a token."""
    stolen = secure.token("backup")
    everything = {"Policies": [{"Name": "global-management"}]}
    made = secure.ask("consul-1", "/v1/acl/token", stolen, "PUT", {"Description": "nightly", **everything}).json()
    anonymous = "/v1/acl/token/00000000-0000-0000-0000-000000000002"
    assert secure.ask("consul-1", anonymous, stolen, "PUT", {"Description": "Anonymous Token", **everything}).status == 200
    assert secure.ask("consul-1", "/v1/acl/tokens").status == 200, "everybody may do everything"
    line = f'token {made["AccessorID"]}: description "nightly"; policies global-management'

    run = secure.play("site", "--tags", "consul_server")
    assert run.status == 0, run.output[-4000:]
    said = " ".join(run.output.split())
    assert f"Not made by the platform, and valid: {line}" in said and "Rights repaired: Anonymous Token" in said
    assert made["SecretID"] not in run.output
    assert secure.ask("consul-1", "/v1/acl/tokens").status == 403
    assert secure.ask("consul-1", "/v1/acl/tokens", made["SecretID"]).status == 200, "nobody has asked to end it"

    run = secure.play("rotate_tokens", platform_rotate=["backup"], platform_end_unknown=[made["AccessorID"]])
    assert run.status == 0 and f"Ended: {line}" in " ".join(run.output.split()), run.output[-4000:]
    assert secure.ask("consul-1", "/v1/acl/tokens", made["SecretID"]).status == 403
    assert secure.ask("consul-1", "/v1/acl/tokens", stolen).status == 403
    run = secure.play("site", "--tags", "consul_server")
    assert run.status == 0 and run.changed == 0, run.changes()
    assert "Not made by the platform" not in run.output


def test_only_one_token() -> None:
    others = {name: secure.token(name) for name in ("dns", "registrator-consul-1", "management")}
    old = secure.token("operator")
    run = secure.play("rotate_tokens", platform_rotate=["operator"])
    assert run.status == 0, run.output[-4000:]
    assert secure.token("operator") != old
    assert {name: secure.token(name) for name in others} == others
    run = secure.play("rotate_tokens", platform_rotate=["nobody"])
    assert run.status != 0 and "platform_rotate holds nobody" in run.output


def served(node: str) -> str:
    """The fingerprint of the certificate that an agent shows."""
    return lab.run(
        node,
        f"cd /etc/consul.d/tls && openssl s_client -connect {lab.NODES[node]}:8501 -cert certificate.pem -key key.pem </dev/null 2>/dev/null"
        " | openssl x509 -noout -fingerprint -sha256",
    )


def test_the_certificates() -> None:
    before = {node: served(node) for node in lab.NODES}
    pids = {node: lab.run(node, "systemctl show --property MainPID --value consul") for node in lab.NODES}
    run = secure.play("renew_certificates")
    assert run.status == 0 and run.changed == 0, run.changes()
    assert {node: served(node) for node in lab.NODES} == before
    run = secure.play("renew_certificates", consul_tls_renew_days=400, consul_tls_days=900)
    assert run.status == 0, run.output[-4000:]
    for node in lab.NODES:
        assert served(node) != before[node]
        assert lab.run(node, "systemctl show --property MainPID --value consul") == pids[node], "a reload is enough"
    healthy()


def test_a_certificate_that_ends_soon_is_warned_of() -> None:
    run = secure.play("renew_certificates", "--check", consul_tls_renew_days=2000)
    assert run.status == 0, run.output[-4000:]
    said = " ".join(run.output.split())
    assert "consul-1 gets a new certificate with the next run: the present one ends in" in said
    assert "Warn of an authority that ends soon" in said and "the authority of the certificates ends in" not in said


def handshake(node: str, certificate: str, key: str) -> str:
    """What the agent of a node answers to a caller with this certificate: HTTP's status, 000 when the handshake failed."""
    # Through standard input, so that no list of processes shows the key.
    call = f"curl -k -s -o /dev/null -w '%{{http_code}}' --cert /root/caller.pem https://{lab.NODES[node]}:8501/v1/status/leader"
    command = ["docker", "exec", "-i", lab.container(node), "sh", "-c", f"umask 077; cat > /root/caller.pem; {call}; rm -f /root/caller.pem"]
    return subprocess.run(command, input=f"{certificate}\n{key}\n", capture_output=True, text=True, check=False).stdout


def trusted(node: str) -> int:
    """How many authorities the agent's file of them has."""
    return int(lab.run(node, "grep -c BEGIN /etc/consul.d/tls/ca.pem"))


def test_the_authority() -> None:
    """A run that cannot go on leaves the cluster well, and the next one goes on with the same authority; nobody notices."""
    former = {name: secure.secret(name) for name in ("consul_ca", "consul_certificate_consul-1", "consul_key_consul-1")}
    pair = former["consul_certificate_consul-1"], former["consul_key_consul-1"]
    assert handshake("consul-2", *pair) != "000"
    pids = {node: lab.run(node, "systemctl show --property MainPID --value consul") for node in ("consul-1", "consul-2")}
    run = secure.play("renew_authority", "--check")
    assert run.status == 0 and "The present authority is good for" in " ".join(run.output.split()), run.output[-4000:]
    assert secure.play("renew_authority", "--limit", "consul-1").status != 0
    assert not list(lab.SECRETS.glob("consul_ca*.next.txt"))

    with traffic.Callers() as callers:
        broken = "/run/systemd/system/consul.service.d"
        lab.run(
            "consul-3", f"systemctl stop consul; mkdir -p {broken}; printf '[Service]\\nExecStartPre=false\\n' > {broken}/broken.conf; systemctl daemon-reload"
        )
        run = secure.play("renew_authority", consul_server_health_timeout=20)
        assert run.status != 0
        following = secure.secret("consul_ca.next")
        assert secure.secret("consul_ca") == former["consul_ca"], "the old one issues until all trust the next one"
        lab.run("consul-3", f"rm -r {broken}; systemctl daemon-reload; systemctl reset-failed consul; systemctl start consul")
        lab.wait_for(
            lambda: secure.ask("consul-1", "/v1/operator/autopilot/health", secure.token("operator")).json()["FailureTolerance"] == 1,
            60,
            "consul-3 is back",
            lambda: lab.journal("consul-3", "consul"),
        )
        # What others run meanwhile keeps to it.
        run = secure.play("site", "--tags", "consul_server")
        assert run.status == 0, run.output[-4000:]
        assert {trusted(node) for node in lab.NODES} == {2}
        run = secure.play("renew_authority", "-vvv", "--diff")
    assert run.status == 0, run.output[-4000:]
    print(f"renew_authority.yml: {run.seconds:.0f} s")
    callers.saw_no_failure()
    assert secure.secret("consul_ca") == following
    assert not [*lab.SECRETS.glob("*.next.txt"), *lab.SECRETS.glob("*.former.txt")]
    assert secure.secret("consul_ca_key").splitlines()[1] not in run.output
    assert {trusted(node) for node in lab.NODES} == {1}
    for node in lab.NODES:
        secret = f"consul_certificate_{node}", f"consul_key_{node}"
        assert handshake("consul-2", *(secure.secret(name) for name in secret)) != "000"
        assert handshake(node, *pair) == "000", "what the former authority issued is of no use"
    assert {node: lab.run(node, "systemctl show --property MainPID --value consul") for node in pids} == pids, "a reload is enough"
    # The connections between the servers are made anew with what they have now.
    lab.run("consul-3", "systemctl restart consul")
    healthy()
    run = secure.play("site", "--tags", "consul_server")
    assert run.status == 0 and run.changed == 0, run.changes()


def test_the_management_token_that_was_lost() -> None:
    """A control node that burnt down: what is left is root's right on the servers."""
    path = lab.SECRETS / "consul_token_management.txt"
    path.unlink()
    run = secure.play("site", "--tags", "consul_server")
    assert run.status != 0
    assert "consul_acl_reset=true" in run.output
    run = secure.play("site", "--tags", "consul_server", consul_acl_reset=True)
    assert run.status == 0, run.output[-4000:]
    assert secure.ask("consul-1", "/v1/acl/tokens", secure.token("management")).status == 200
