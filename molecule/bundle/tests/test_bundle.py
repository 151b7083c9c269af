# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle installs a whole site without internet: from the tar file to the acceptance, a newer bundle, and back to bare hosts."""

from __future__ import annotations

import json

import closed
import lab
import pytest
from closed import EVERYBODY, HOME, Control, bundle

#: Somebody outside, by number and by name. What is sent there is dropped without an answer, so whatever tried would also be slow.
CONNECT = """
import socket
for address in [("192.0.2.1", 443), ("198.51.100.1", 80), ("www.example.org", 443)]:
    try:
        socket.create_connection(address, timeout=5)
        print("connected to", address)
    except socket.gaierror as error:
        print("no name", address, error)
    except (TimeoutError, socket.timeout) as error:
        print("no answer", address, error)
"""
TARGET = "/var/lib/trinode/packages"


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("node", EVERYBODY)
def test_nobody_reaches_anything_outside(node: str) -> None:
    said = lab.run(node, f"timeout 60 python3 -c '{CONNECT}'")
    assert said.count("no answer") == 2 and said.count("no name") == 1, said
    # Every source of the image is out of reach, so there is nothing to install from.
    assert lab.run(node, "timeout 120 apt-get update -o APT::Update::Error-Mode=any -o Acquire::Retries=0 >/dev/null 2>&1; echo $?") != "0"
    assert lab.run(node, "apt-get install --simulate docker.io 2>&1", check=False).count("Unable to locate package") == 1
    assert lab.run(node, "find /var/cache/apt/archives -name '*.deb'") == ""


@pytest.fixture(scope="session", name="installed")
def fixture_installed(control: Control) -> Control:
    """The control node after the first step, by nothing but the tar file."""
    source = bundle()
    closed.docker("cp", str(source), f"{closed.NAME}:{HOME}/bundle.tar")
    run = control.shell("tar xf bundle.tar && ls -d trinode-platform-*/")
    assert run.status == 0, run.output
    control.directory = f"{HOME}/{run.output.strip().rstrip('/')}"
    run = control.shell("./install")
    assert run.status == 0, run.output
    print(f"{source.name}: {source.stat().st_size / 1e6:.0f} MB; ./install took {run.seconds:.0f} s")
    control.settings(
        hospital_network=lab.NETWORK,
        platform_artifact_mirror=f"{control.directory}/artifacts",
        platform_package_mirror=f"{control.directory}/artifacts/packages",
        platform_public_names=lab.PUBLIC_NAMES,
    )
    return control


def test_the_control_node_is_made_twice(installed: Control) -> None:
    run = installed.shell("./install")
    assert run.status == 0 and "the Python packages are there" in run.output, run.output


def test_a_damaged_bundle_is_refused(installed: Control) -> None:
    run = installed.shell("cp site.yml /tmp/site.yml && echo >> site.yml && ./install; echo status=$?; cp /tmp/site.yml site.yml")
    assert "status=1" in run.output and "site.yml: FAILED" in run.output and "error: the bundle is damaged" in run.output, run.output


def test_hosts_of_which_the_bundle_knows_nothing_are_refused(installed: Control) -> None:
    run = installed.play("site.yml", platform_package_mirror="/srv/none")
    assert run.status != 0
    assert run.changed == 0, run.changes()
    said = " ".join(run.output.split())
    assert 'make bundle SUITES="' in said and "/srv/none/" in said and "consul-1: the bundle has no packages for" in said, run.output[-3000:]


def test_check_mode_on_bare_hosts(installed: Control) -> None:
    run = installed.well("site.yml", "--check", "--diff")
    assert "sources.list.d/trinode-packages.list" in run.output
    for node in lab.NODES:
        assert lab.run(node, f"ls {TARGET} /etc/apt/sources.list.d/trinode-packages.list 2>/dev/null || echo none") == "none"


@pytest.fixture(scope="session", name="site")
def fixture_site(installed: Control) -> Control:
    """The whole site."""
    run = installed.well("site.yml")
    assert run.changed > 0
    return installed


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("node", lab.NODES)
def test_the_packages_are_those_of_the_bundle(node: str) -> None:
    policy = lab.run(node, "apt-cache policy docker.io nginx python3-docker")
    assert policy.count(f"file:{TARGET}") == 3, policy
    remembered = json.loads(lab.run(node, "cat /var/lib/trinode/packages.json"))
    assert "docker.io" in remembered["docker_daemon_dns"] and "containerd" in remembered["docker_daemon_dns"]
    assert "python3-docker" in remembered["registrator"]
    assert lab.run(node, "systemctl is-active consul docker registrator").split() == ["active"] * 3


@pytest.mark.parametrize("mirror", [{}, {"platform_package_mirror": ""}], ids=["bundle", "unreachable sources"])
def test_a_run_on_another_day_changes_nothing(site: Control, mirror: dict[str, str]) -> None:
    """With the bundle, and where the hosts' own sources are all there is and out of reach: old lists are good enough when nothing is missing."""
    for node in lab.NODES:
        # Where apt and Ansible look for the age of lists; a host has not all of them.
        lab.run(node, "find /var/lib/apt /var/cache/apt -exec touch -h -d '3 days ago' {} +")
    run = site.well("site.yml", **mirror)
    assert run.changed == 0, run.changes()


def test_the_acceptance_passes(site: Control) -> None:
    site.well("playbooks/acceptance.yml", acceptance_report_dir=f"{HOME}/reports", acceptance_disruptive=True)
    report = json.loads(lab.run("control", f"cat {HOME}/reports/acceptance.json"))
    assert {check["number"]: check["status"] for check in report["checks"]} == dict.fromkeys(range(1, 13), "passed"), json.dumps(report["checks"], indent=1)


def test_a_newer_bundle_takes_the_place_of_the_first(site: Control) -> None:
    """Another archive: with an additional member its checksum is another one. The upgrade finds nothing newer, and asks nobody else."""
    packages = f"{site.directory}/artifacts/packages"
    former = lab.run("consul-1", f"ls {TARGET}")
    run = site.shell(
        f"set -e; mkdir {HOME}/newer {HOME}/unpacked; cd {HOME}/unpacked; for archive in {packages}/*.tar; do name=$(basename $archive); rm -rf *;"
        f" tar xf $archive; date > NEWER; tar cf {HOME}/newer/$name $(ls | grep -v '^Release$') Release; cd {HOME}/newer; sha256sum $name > $name.sha256;"
        f" cd {HOME}/unpacked; done"
    )
    assert run.status == 0, run.output
    run = site.well("playbooks/upgrade.yml", platform_package_mirror=f"{HOME}/newer")
    assert set(run.recap) == set(lab.NODES)
    for node in lab.NODES:
        kept = lab.run(node, f"ls -A {TARGET}").split()
        assert len(kept) == 1 and kept[0] != former, f"{node}: {kept}, formerly {former}"
        assert kept[0] in lab.run(node, "cat /etc/apt/sources.list.d/trinode-packages.list")
        lists = lab.run(node, "ls /var/lib/apt/lists")
        assert former not in lists and kept[0] in lists
    again = site.well("site.yml", "--tags package_mirror", platform_package_mirror=f"{HOME}/newer")
    assert again.changed == 0, again.changes()


def test_uninstalled_hosts_know_nothing_of_the_bundle(site: Control) -> None:
    site.well("playbooks/uninstall.yml", uninstall_everything=True, uninstall_packages=True)
    for node in lab.NODES:
        assert lab.run(node, "find /var/lib /etc/apt/sources.list.d /etc/apt/preferences.d /var/lib/apt/lists -maxdepth 1 -name '*trinode*'") == ""
        known = dict(line.split() for line in lab.run(node, "dpkg-query -W -f '${Package} ${db:Status-Status}\\n'").splitlines())
        assert known.get("docker.io", "not-installed") == "not-installed"
    run = site.well("playbooks/remove_package_mirror.yml")
    assert run.changed == 0, run.changes()
