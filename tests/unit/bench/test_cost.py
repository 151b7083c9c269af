# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cost of units, and what else the suites compute or write without nodes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from bench import agents, cost, sides
from bench.cost import Cost
from bench.play import ROOT
from bench.suites import dns, idle

BEFORE = {"pid": 7, "pss": 1, "rss": 1, "cpu_ns": 1_000_000_000}


def test_cost_of_a_unit() -> None:
    after = {"pid": 7, "pss": 30_000_000, "rss": 50_000_000, "cpu_ns": 2_200_000_000}
    assert cost.cost(BEFORE, after, 120) == Cost(pytest.approx(1.0), 30.0, 50.0)
    nothing = {"pid": 0, "pss": 0, "rss": 0, "cpu_ns": 0}
    assert cost.cost(nothing, nothing, 120) == Cost(0, 0, 0)
    with pytest.raises(ValueError, match="process 7 became process 8"):
        cost.cost(BEFORE, {**after, "pid": 8}, 120)


def test_costs_add_up() -> None:
    assert cost.total([Cost(0.5, 10, 20), Cost(0.25, 1, 2)]) == Cost(0.75, 11, 22)
    assert cost.total([]) == Cost(0, 0, 0)


def test_light_agents_open_nothing_but_their_gossip() -> None:
    made = json.loads(agents.agent_config("172.31.88.131", ["172.31.88.129"]))
    assert made["server"] is False
    assert set(made["ports"].values()) == {-1}
    assert "serf_lan" not in made["ports"]
    assert made["leave_on_terminate"] is True
    assert made["retry_join"] == ["172.31.88.129:8301"]


def test_haproxy_has_a_rule_and_a_backend_for_each_service() -> None:
    text = sides.haproxy_config({"a.apps.demo.example": "a", "b.apps.demo.example": "b"})
    assert "    use_backend a if { hdr(host) -i a.apps.demo.example }\n    use_backend b if" in text
    assert text.count("server-template") == 2
    assert "server-template b 10 _b._tcp.service.consul resolvers consul " in text
    assert f"bind :{sides.HAPROXY_PORT}" in text
    assert text.index("frontend") < text.index("use_backend") < text.index("backend a\n")


def test_every_side_has_a_port_of_its_own() -> None:
    ports = [sides.Platform.port, sides.SEED_PORT, sides.HAND_PORT, sides.HAPROXY_PORT]
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize("program", [sides.HAPROXY_SERVERS, idle.BACKUP], ids=["haproxy", "backup"])
def test_programs_for_the_nodes_are_python(program: str) -> None:
    subprocess.run([sys.executable, "-c", "import ast, sys; ast.parse(sys.stdin.read())"], input=program, text=True, check=True)


def test_what_is_idle_is_what_the_roles_install() -> None:
    defaults = yaml.safe_load((ROOT / "roles/consul_backup/defaults/main.yml").read_text())
    assert defaults["consul_backup_schedule"] == "hourly"
    assert idle.BACKUP_SECONDS == 3600
    assert defaults["consul_backup_directory"] == idle.BACKUP_DIRECTORY
    templates = {path.name.removesuffix(".j2") for path in (ROOT / "roles").glob("*/templates/*.service.j2")}
    # nginx has the unit of its package, with a drop-in.
    assert templates == {*idle.EDGE_UNITS, idle.BACKUP_UNIT, *idle.NOT_MEASURED} - {"nginx.service"}


def test_the_settings_of_the_caches_are_those_of_an_extra_config() -> None:
    assert dns.AGENT_CACHE["dns_config"].keys() == {"service_ttl", "use_cache", "cache_max_age"}
    assert {figure.name.rpartition("_")[2] for figure in dns.FIGURES} == {"qps", "ms", "percent", "ratio", "slow"}
