# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps an eviction from beginning is one report, before the first connection; no connection is ever made to the evicted host."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from control_node import ROOT, SITE, Control, inventory

sys.path.insert(0, str(ROOT / "tests" / "agent"))
sys.path.insert(0, str(ROOT / "tests" / "render"))

from test_datacenters_secure import Authority

CONFIRMED = ["-e", "confirm_datacenter=dc1"]


@pytest.fixture(name="begun", autouse=True)
def fixture_begun(control: Control) -> Path:
    """The secrets of a site that runs."""
    secrets = control.site / "secrets"
    secrets.mkdir()
    (secrets / "consul_ca.txt").write_text("x", encoding="utf-8")
    return secrets


def with_groups(control: Control, **groups: t.Any) -> None:
    """Write the inventory with other groups; None leaves one out."""
    content = inventory()
    children = {**content["all"]["children"], **groups}
    content["all"]["children"] = {name: hosts for name, hosts in children.items() if hosts is not None}
    control.write(content)


def evict(control: Control, *arguments: str, **options: t.Any) -> t.Any:
    return control.play("evict_node.yml", *CONFIRMED, *arguments, **options)


def servers_of(secrets: Path, place: Path, *nodes: str) -> None:
    """Keep the certificates with which these nodes were servers."""
    for node in nodes:
        issued = Authority("Consul").issue(place / node, "server.dc1.consul", f"{node}.node.dc1.consul")
        (secrets / f"consul_certificate_{node}.txt").write_text(Path(issued["cert_file"]).read_text())


def test_no_group_is_an_error_that_says_what_to_do(control: Control) -> None:
    for group in (None, {"hosts": {}}):
        with_groups(control, evicted_nodes=group)
        outcome = evict(control)
        outcome.refused("has no host in the group evicted_nodes; move the host that was broken into out of all groups of the platform, and into evicted_nodes")


def test_a_misspelt_group_is_found_by_every_playbook(control: Control) -> None:
    with_groups(control, evicted_nodes=None, evicted_node={"hosts": {"consul-9": None}})
    for playbook in ("evict_node.yml", "site.yml"):
        control.play(playbook, *CONFIRMED).refused("has consul-9 in the group evicted_node", "did you mean evicted_nodes?")


@pytest.mark.parametrize("playbook", ["evict_node.yml", "site.yml", "rotate_tokens.yml", "backup.yml"])
def test_a_host_is_not_evicted_and_part_of_the_platform(control: Control, playbook: str) -> None:
    with_groups(control, evicted_nodes={"hosts": {"consul-2": None}})
    outcome = control.play(playbook, *CONFIRMED)
    outcome.refused("consul-2 is in the group evicted_nodes and in consul_servers, docker_hosts and edge; take it out of")


@pytest.mark.parametrize("limit", ["consul-9", "consul-1", "all", "!consul-3"])
def test_no_limit_leaves_out_a_host_that_stays(control: Control, limit: str) -> None:
    """The one that names the evicted host as well, as remove_node.yml wants it: Ansible would do nothing, and call that a success."""
    evict(control, "--limit", limit).refused(f"he eviction works on all hosts that stay, and not on --limit {limit}; run it without")


@pytest.mark.parametrize("playbook", ["site.yml", "remove_node.yml"])
def test_no_playbook_is_limited_to_an_evicted_host(control: Control, playbook: str) -> None:
    outcome = control.play(playbook, *CONFIRMED, "--limit", "consul-9")
    outcome.refused("--limit names consul-9, which is in the group evicted_nodes")


def test_an_open_site_evicts_nobody(control: Control) -> None:
    content = inventory()
    content["all"]["vars"]["platform_security"] = "open"
    control.write(content)
    evict(control).refused("he site is open", "keep it off the network", "remove it with remove_node.yml", "playbooks/secure_cluster.yml")


def test_certificates_of_the_operator_are_replaced_by_hand(control: Control) -> None:
    files = {"ca": "/etc/ca.pem", "certificate": "/etc/cert.pem", "key": "/etc/key.pem"}
    content = inventory()
    content["all"]["vars"]["platform_consul_certificates"] = files
    control.write(content)
    evict(control).refused("the agents have certificates of your own", "put the certificates of another authority into platform_consul_certificates")


def test_tokens_are_rotated_whole(control: Control) -> None:
    evict(control, variables={"platform_rotate": ["operator"]}).refused("platform_rotate leaves out a part of the eviction")


def test_the_successor_of_an_evicted_host_has_another_name(control: Control) -> None:
    with_groups(control, evicted_nodes={"hosts": {"old-3": {"consul_server_node_name": "consul-3"}}})
    evict(control).refused("old-3 in the group evicted_nodes has the node name consul-3 of consul-3, which is part of the platform")


def test_servers_that_stay_are_the_majority(control: Control, begun: Path) -> None:
    gone = {"hosts": dict.fromkeys(("consul-7", "consul-8", "consul-9"))}
    with_groups(control, evicted_nodes=gone)
    servers_of(begun, control.place, "consul-7", "consul-8")
    assert "would be evicted" not in evict(control).report
    servers_of(begun, control.place, "consul-9")
    evict(control).refused("3 servers stay and 3 (consul-7, consul-8, consul-9) would be evicted", "build the cluster anew from a snapshot")


def test_no_check_can_be_tolerated(control: Control, begun: Path) -> None:
    gone = {"hosts": dict.fromkeys(("consul-2", "consul-7", "consul-8", "consul-9"))}
    with_groups(control, evicted_nodes=gone)
    servers_of(begun, control.place, *gone["hosts"])
    tolerated = {"preflight_tolerated": ["groups", "servers", "security", "limit"]}
    evict(control, variables=tolerated).refused("consul-2 is in the group evicted_nodes", "4 (consul-2, consul-7, consul-8, consul-9) would be evicted")


def test_only_hosts_that_stay_are_asked(control: Control) -> None:
    """All of them, and one that does not answer ends the run; the evicted host is not asked."""
    outcome = evict(control)
    assert "consul-1, consul-2 and consul-3 cannot be reached" in outcome.report, outcome.output
    assert outcome.calls and not [call for call in outcome.calls if "192.0.2.9" in call]


def test_the_documented_layout_with_workers_passes(control: Control) -> None:
    """Servers without containers, and workers as clients: the example of the documentation is an inventory without a mistake."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("## Workers as clients")[2]
    example = yaml.safe_load(text.partition("```yaml")[2].partition("```")[0])
    groups = {name: set(group["hosts"]) for name, group in example["all"]["children"].items()}
    assert not groups["consul_servers"] & (groups["docker_hosts"] | groups["edge"])
    example["all"]["vars"] = {**SITE, "platform_address": "{{ ansible_host }}"}
    control.write(example)
    outcome = control.play("site.yml")
    assert outcome.report.startswith("1 problem. Nothing was changed on any host. 1. consul-1, "), outcome.output
    assert "cannot be reached" in outcome.report and outcome.calls, outcome.output
