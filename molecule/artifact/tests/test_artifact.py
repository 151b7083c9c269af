# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Galaxy tarball brings up the platform, from an empty place and without the checkout.

The inventory is another one than the hospital's: the open form, one server, two agents that are the edge, and another manager of the resolver on each host.
The edge ends TLS with a certificate of the operator's, and callers inside reach what is exposed through the nginx of their own node.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import typing as t
from pathlib import Path

import lab
import pytest

HOSTS = """---
all:
  vars:
    # A preflight refuses it otherwise: the loss of the one server is the loss of the platform.
    preflight_allow_single_server: true
  children:
    consul_servers:
      hosts:
        consul-1: {{ansible_host: {network}.129, resolvconf_dns_backend: resolvconf}}
    consul_clients:
      hosts:
        consul-2: {{ansible_host: {network}.130, resolvconf_dns_backend: resolved}}
        consul-3: {{ansible_host: {network}.131, resolvconf_dns_backend: file}}
    docker_hosts: {{hosts: {{consul-1: , consul-2: , consul-3: }}}}
    edge: {{hosts: {{consul-2: , consul-3: }}}}
"""
EDGE_DOMAIN = "apps.hospital.example"
#: Where Docker's bridge is on each node.
BRIDGE = "172.17.0.1"
FORBIDDEN = ("collections/", "molecule/", "tests/", "artifacts/", "build/", "ansible.cfg", ".git")


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, built from what git knows of the checkout, as a release is."""
    source = tmp_path_factory.mktemp("source")
    subprocess.run(["git", "checkout-index", "--all", f"--prefix={source}/"], cwd=lab.ROOT, check=True)
    target = tmp_path_factory.mktemp("tarball")
    subprocess.run(["ansible-galaxy", "collection", "build", str(source), "--output-path", str(target)], check=True)
    return next(target.glob("trinode-platform-*.tar.gz"))


@pytest.fixture(scope="module")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which only the installed collection is found."""
    place = tmp_path_factory.mktemp("collections")
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(place)}
    # Without the environment, galaxy would find the checkout and call the collection installed.
    subprocess.run(
        ["ansible-galaxy", "collection", "install", str(tarball), "--offline", "--no-deps", "-p", str(place)], env={**os.environ, **environment}, check=True
    )
    assert (place / "ansible_collections" / "trinode" / "platform" / "MANIFEST.json").is_file()
    return environment


def test_the_tarball_holds_the_collection_and_nothing_else(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
    assert {"MANIFEST.json", "README.md", "LICENSE", "meta/runtime.yml", "playbooks/site.yml"} <= set(names)
    assert not [name for name in names if name.startswith(FORBIDDEN)]


def test_the_documentation_is_found(installed: dict[str, str]) -> None:
    for kind, name in (("filter", "http_upstreams"), ("module", "unit_drift"), ("role", "consul_server")):
        shown = subprocess.run(
            ["ansible-doc", "--type", kind, f"trinode.platform.{name}"], env={**os.environ, **installed}, capture_output=True, text=True, check=False
        )
        assert shown.returncode == 0 and installed["ANSIBLE_COLLECTIONS_PATH"] in shown.stdout, shown.stdout + shown.stderr


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest platform."""
    place = tmp_path_factory.mktemp("inventory")
    (place / "hosts.yml").write_text(HOSTS.format(network=lab.NETWORK), encoding="utf-8")
    shutil.copytree(lab.INVENTORY / "group_vars", place / "group_vars")
    # Not beside the hosts: what lies there is read as an inventory.
    tls = tmp_path_factory.mktemp("tls")
    certificate, key = tls / "apps.crt", tls / "apps.key"
    names = ["-subj", f"/CN=*.{EDGE_DOMAIN}", "-addext", f"subjectAltName=DNS:*.{EDGE_DOMAIN}"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", "-keyout", str(key), "-out", str(certificate), *names],
        check=True,
        capture_output=True,
    )
    settings = {
        # The form without keys, certificates and tokens.
        "platform_security": "open",
        "platform_tls_certificates": [{"name": "apps", "certificate": str(certificate), "key": str(key)}],
        "platform_edge": {"internal": {"listen_addresses": [BRIDGE], "http_tag": "http"}},
    }
    (place / "group_vars" / "docker_hosts.yml").write_text(json.dumps(settings), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def site(installed: dict[str, str], inventory: Path) -> lab.Play:
    """The whole platform by the playbook's full name."""
    return lab.play("trinode.platform.site", environment=installed, inventory=inventory)


def test_the_site_comes_up(site: lab.Play) -> None:
    assert site.status == 0, site.output[-8000:]
    assert site.changed > 0


@pytest.mark.usefixtures("site")
def test_a_second_run_changes_nothing(installed: dict[str, str], inventory: Path) -> None:
    result = lab.play("trinode.platform.site", environment=installed, inventory=inventory)
    assert result.status == 0, result.output[-8000:]
    assert result.changed == 0, result.changes()


@pytest.mark.usefixtures("site")
def test_agents_are_members_and_no_servers() -> None:
    members = {fields[0]: fields[3] for fields in (line.split() for line in lab.run("consul-3", "consul members").splitlines()[1:])}
    assert members == {"consul-1": "server", "consul-2": "client", "consul-3": "client"}


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("node", "proof"),
    {
        "consul-1": "test -L /etc/resolv.conf && grep -q '^nameserver 127.0.0.1$' /run/resolvconf/resolv.conf",
        "consul-2": "resolvectl domain | grep -q '~consul' && resolvectl query consul.service.dc1.consul",
        "consul-3": "test ! -L /etc/resolv.conf && grep -q '^nameserver 127.0.0.1$' /etc/resolv.conf",
    }.items(),
)
def test_each_manager_of_the_resolver_serves_both_kinds_of_names(node: str, proof: str) -> None:
    shown = "ls -l /etc/resolv.conf; cat /etc/resolv.conf /var/lib/trinode/resolver.json; resolvectl status"
    for command in (proof, "getent hosts consul.service.dc1.consul", f"getent hosts {lab.PUBLIC_NAMES[0]}"):
        answer = lab.run(node, f"({command}) >/dev/null 2>&1 && echo yes", check=False)
        assert answer == "yes", f"{node}: {command}\n{lab.run(node, shown, check=False)}"


CURRENT_SERVER = "busctl get-property org.freedesktop.resolve1 /org/freedesktop/resolve1 org.freedesktop.resolve1.Manager CurrentDNSServer"
RESOLVED, LOOPBACK = "consul-2", "2 4 127 0 0 1"


@pytest.mark.usefixtures("site")
def test_systemd_resolved_returns_to_the_agent_of_its_host() -> None:
    """While that was down, lookups went to another node, on which this one must not depend for longer."""
    look = "getent ahostsv4 consul.service.dc1.consul"
    lab.run(RESOLVED, "systemctl stop consul")
    try:
        assert lab.run(RESOLVED, f"{look} >/dev/null && {CURRENT_SERVER}").split(" ", 2)[2] != LOOPBACK
    finally:
        lab.run(RESOLVED, "systemctl start consul")
    # It asks nobody before it has a question.
    lab.wait_for(
        lambda: LOOPBACK in lab.run(RESOLVED, f"{look} >/dev/null; {CURRENT_SERVER}"),
        60,
        "systemd-resolved asks the agent of its host again",
        lambda: lab.journal(RESOLVED, "resolvconf-dns-return", "systemd-resolved"),
    )


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("setting", ["DNSSEC=yes", "DNSOverTLS=yes"])
def test_settings_that_refuse_the_domain_are_named_before_anything_changes(installed: dict[str, str], inventory: Path, setting: str) -> None:
    file, ours = "/etc/systemd/resolved.conf.d/site.conf", "/etc/systemd/resolved.conf.d/60-resolvconf-dns.conf"
    before = lab.run(RESOLVED, f"cat {ours} | sha256sum; stat -c %Y {ours}")
    lab.run(RESOLVED, f"printf '[Resolve]\\n{setting}\\n' > {file}")
    try:
        arguments = ["--tags", "resolvconf_dns", "--limit", RESOLVED]
        result = lab.play("trinode.platform.site", *arguments, environment=installed, inventory=inventory)
        assert result.status != 0 and f"{file}: {setting}" in result.output, result.output[-4000:]
        assert "Nothing was changed" in result.output
        assert lab.run(RESOLVED, f"cat {ours} | sha256sum; stat -c %Y {ours}") == before
    finally:
        lab.run(RESOLVED, f"rm {file}")


@pytest.mark.usefixtures("site")
def test_the_acceptance_passes(installed: dict[str, str], inventory: Path, tmp_path: Path) -> None:
    variables = {"acceptance_report_dir": str(tmp_path), "acceptance_keep_services": True}
    result = lab.play("trinode.platform.acceptance", environment=installed, inventory=inventory, variables=variables)
    assert result.status == 0, result.output[-8000:]
    report: dict[str, t.Any] = json.loads((tmp_path / "acceptance.json").read_text(encoding="utf-8"))
    # Without acceptance_disruptive, as on a site in use, the ninth check leaves the services alone.
    assert {check["number"] for check in report["checks"] if check["status"] == "passed"} >= set(range(1, 13)) - {9, 10}
    assert not [check for check in report["checks"] if check["status"] == "failed"]


def asked(node: str, arguments: str, expected: str) -> None:
    """A request from a node is answered as expected, within the time that a change may take."""
    command = f"curl --silent --show-error --max-time 5 --write-out ' status=%{{http_code}}' {arguments} 2>&1"
    lab.wait_for(
        lambda: expected in lab.run(node, command, check=False),
        20,
        f"{node}: {command} says {expected!r}",
        lambda: "\n".join([lab.run(node, command, check=False), *(lab.run(edge, "nginx-edge-apply --status", check=False) for edge in lab.NODES)]),
    )


@pytest.fixture(scope="module")
def authority(inventory: Path) -> str:
    """The operator's certificate where curl on the server finds it."""
    settings = json.loads((inventory / "group_vars" / "docker_hosts.yml").read_text(encoding="utf-8"))
    text = Path(settings["platform_tls_certificates"][0]["certificate"]).read_text(encoding="utf-8")
    lab.run("consul-1", f"cat > /root/apps.crt <<'END'\n{text}END")
    return "/root/apps.crt"


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("edge", ["consul-2", "consul-3"])
def test_the_edge_ends_tls_with_the_operators_certificate(authority: str, edge: str) -> None:
    name = f"httpfront.{EDGE_DOMAIN}"
    to = f"--resolve {name}:443:{lab.NODES[edge]}"
    asked("consul-1", f"--cacert {authority} {to} https://{name}/", "this is httpfrontservice, version: v1.0.0, calling backendservice ok")
    lab.run(edge, "systemctl kill --signal=KILL nginx")
    asked("consul-1", f"--cacert {authority} {to} https://{name}/", "this is httpfrontservice")
    assert lab.run(edge, "stat -c '%U %a' /etc/nginx-edge/tls/apps.pem") == "root 600"


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("node", lab.NODES)
def test_callers_inside_reach_services_through_their_own_node(node: str) -> None:
    """From the node, whose request Docker's masquerading gives another address, and from a container; also where there is no edge."""
    name = f"httpfront.internal.{EDGE_DOMAIN}"
    asked(node, f"--header 'Host: {name}' http://{BRIDGE}/", "this is httpfrontservice, version: v1.0.0, calling backendservice ok")
    script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
    start = f"docker run --rm --add-host {name}:{BRIDGE} --entrypoint python3 trinode/httpbackend:v1.0.0"
    said = lab.run(node, f"{start} -c '{script}' http://{name}/", check=False)
    assert "this is httpfrontservice" in said, f"{said}\n{lab.run(node, 'nginx-edge-apply --status', check=False)}"


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("node", lab.NODES)
def test_the_inside_is_not_reached_from_outside(node: str) -> None:
    """At the node's own address, an edge knows no such name, and on a node that is no edge nothing listens."""
    name, neighbour = f"httpfront.internal.{EDGE_DOMAIN}", "consul-3" if node != "consul-3" else "consul-2"
    expected = "status=404" if node in ("consul-2", "consul-3") else "status=000"
    asked(neighbour, f"--header 'Host: {name}' http://{lab.NODES[node]}/", expected)
