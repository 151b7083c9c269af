# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The converged platform, as its parts answer: not which files there are, but what runs and what it says."""

from __future__ import annotations

import json
import typing as t

import lab
import pytest

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = [lab.testinfra_name(node) for node in lab.NODES]

UNITS = {"consul": "consul", "registrator": "registrator", "consul-template": "consul-template"}


def node_of(host: Host) -> str:
    return str(host.check_output("hostname"))


def test_check_mode_has_nothing_to_say() -> None:
    result = lab.play("site.yml", "--check", "--diff")
    assert result.status == 0, result.output[-6000:]
    assert result.changed == 0, result.changes()
    assert set(result.recap) == set(lab.NODES)


@pytest.mark.parametrize("unit", UNITS)
def test_a_service_runs_as_its_own_user(host: Host, unit: str) -> None:
    node = node_of(host)
    if unit == "consul-template" and node not in lab.EDGES:
        assert not host.service(unit).is_running
        return
    try:
        assert host.service(unit).is_running
        assert host.service(unit).is_enabled
        pid = host.check_output("systemctl show --property=MainPID --value %s", unit)
        assert host.check_output("ps -o user= -p %s", pid).strip()[:8] == UNITS[unit][:8]
        assert host.check_output("systemctl show --property=NRestarts --value %s", unit) == "0"
    except AssertionError:
        print(lab.journal(node, unit))
        raise


@pytest.mark.parametrize("edge", lab.EDGES)
def test_a_checked_apply_that_was_killed_is_repeated(edge: str) -> None:
    ask = "systemctl show -p MainPID --value nginx-edge-apply.service"
    lab.run(edge, "/usr/local/bin/nginx-edge-request")
    process = lab.wait_for(lambda: lab.run(edge, ask).lstrip("0"), 20, f"{edge}: the program runs")
    lab.run(edge, f"kill -KILL {process}")
    lab.wait_for(lambda: lab.run(edge, ask) not in ("0", process), 20, f"{edge}: it runs again", lambda: lab.journal(edge, "nginx-edge-apply"))


@pytest.mark.parametrize("unit", ["consul", "registrator", "consul-template", "nginx-edge-apply"])
def test_exposure_of_the_units(host: Host, unit: str) -> None:
    if not host.file(f"/etc/systemd/system/{unit}.service").exists:
        assert node_of(host) not in lab.EDGES
        return
    line = host.check_output("systemd-analyze security --no-pager %s.service | tail -n 1", unit)
    score = float(line.split(":")[1].split()[0])
    assert score <= 3.5, line


def test_dns_answers_on_loopback_and_the_node_address(host: Host) -> None:
    node = node_of(host)
    for address in ("127.0.0.1", lab.NODES[node]):
        for protocol in ("udp", "tcp"):
            socket = host.socket(f"{protocol}://{address}:53")
            assert socket.is_listening, f"{node}: {protocol} {address}\n{lab.run(node, 'ss -lntup')}"


def test_consul_is_not_its_own_recursor(host: Host) -> None:
    node = node_of(host)
    own = {"127.0.0.1", *lab.NODES.values()}
    config = json.loads(host.check_output("cat /etc/consul.d/consul.json"))
    assert config["recursors"], "no recursor: names outside of the domain would not resolve"
    assert not own & set(config["recursors"]), f"{node}: {config['recursors']}"


def test_docker_settings_are_in_force(host: Host) -> None:
    assert host.check_output("docker info --format '{{.LiveRestoreEnabled}}'") == "true"
    daemon = json.loads(host.check_output("cat /etc/docker/daemon.json"))
    assert daemon["dns"][0] == lab.NODES[node_of(host)]


def test_no_secret_place_is_open(host: Host) -> None:
    for path in ("/etc/consul.d", "/var/lib/consul"):
        assert host.file(path).mode & 0o007 == 0, path


def test_unknown_names_get_404_at_the_edge(host: Host) -> None:
    node = node_of(host)
    if node not in lab.EDGES:
        assert not host.package("nginx").is_installed
        return
    for name in ("nothing.apps.hospital.example", "consul", "x" * 200):
        status = host.check_output("curl -s -o /dev/null -w '%%{http_code}' -H 'Host: %s' http://%s/", name, lab.NODES[node])
        assert status == "404", f"{name}: {status}\n{lab.run(node, 'nginx -T 2>/dev/null | tail -n 60', check=False)}"
