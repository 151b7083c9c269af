# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another version of Consul and another configuration, while callers do not stop; and a step that fails."""

from __future__ import annotations

import lab
import pytest
import traffic
from day2 import NEW, NEW_TEMPLATE, OLD, OLD_TEMPLATE, Run, former_packages, leader, started, template_version, versions


@pytest.fixture(scope="module", name="upgrade")
def fixture_upgrade(site: Run) -> tuple[lab.Play, traffic.Callers, str]:
    assert set(versions().values()) == {OLD}
    assert OLD == NEW or {template_version(edge) for edge in lab.EDGES} == {OLD_TEMPLATE}
    assert {node: len(former_packages(node)) for node in lab.NODES} == {node: 4 if node in lab.EDGES else 1 for node in lab.NODES}
    former = leader()
    with traffic.Callers() as callers:
        result = site("upgrade.yml")
    return result, callers, former


def test_check_mode_tells_and_changes_nothing(site: Run) -> None:
    result = site("upgrade.yml", "--check", "--diff")
    assert result.status == 0, result.output[-6000:]
    assert f"+{NEW}" in result.output.replace(" ", "") or NEW in result.output
    assert set(versions().values()) == {OLD}


def test_nobody_notices_the_upgrade(upgrade: tuple[lab.Play, traffic.Callers, str]) -> None:
    result, callers, _former = upgrade
    assert result.status == 0, result.output[-8000:]
    print(f"upgrade.yml: {result.seconds:.0f} s")
    assert set(versions().values()) == {NEW}
    assert {template_version(edge) for edge in lab.EDGES} == {NEW_TEMPLATE}
    assert [line for node in lab.NODES for line in former_packages(node)] == []
    callers.saw_no_failure()


def test_the_leader_was_last(upgrade: tuple[lab.Play, traffic.Callers, str]) -> None:
    former = upgrade[2]
    assert max(lab.NODES, key=started) == former


@pytest.mark.usefixtures("upgrade")
def test_a_snapshot_was_taken_first(site: Run) -> None:
    copies = list(site.backups.glob("consul-*-before-upgrade.snap"))
    assert len(copies) == 1
    assert copies[0].stat().st_mode & 0o777 == 0o600
    for node in lab.NODES:
        assert "before-upgrade" in lab.run(node, "consul-backup list")


@pytest.mark.usefixtures("upgrade")
def test_a_second_run_changes_nothing(site: Run) -> None:
    result = site.well("upgrade.yml")
    assert result.changed == 0, result.changes()
    assert len(list(site.backups.glob("*before-upgrade*"))) == 1


@pytest.mark.usefixtures("upgrade")
def test_a_step_that_fails_is_the_last_one_and_says_the_way_back(site: Run) -> None:
    """Consul finds the settings valid, and cannot start with them: sshd has that port."""
    before = {node: started(node) for node in lab.NODES}
    with traffic.Callers() as callers:
        result = site("upgrade.yml", consul_server_extra_config={"ports": {"grpc": 22}}, consul_server_health_timeout=20)
        assert result.status != 0
        hurt = [node for node in lab.NODES if '"grpc": 22' in lab.run(node, "cat /etc/consul.d/consul.json")]
        assert len(hurt) == 1, f"{hurt}: only the first host was touched"
        said = " ".join(result.output.split())
        assert f"The upgrade stopped at {hurt[0]}; the hosts after it are as they were" in said
        assert "The way back: take the last change of the settings back" in said
        assert {node: started(node) for node in lab.NODES if node not in hurt} == {node: time for node, time in before.items() if node not in hurt}
        # The way back, as it was said.
        lab.run(hurt[0], "systemctl reset-failed consul", check=False)
        site.well("site.yml", "--tags", "consul_server", "--limit", hurt[0])
        traffic.settle()
    callers.saw_no_failure()


@pytest.mark.usefixtures("upgrade")
def test_a_changed_setting_rolls_the_same_way(site: Run) -> None:
    former = leader()
    with traffic.Callers() as callers:
        site.well("upgrade.yml", "--tags", "consul_server", consul_server_log_level="debug")
    callers.saw_no_failure()
    assert max(lab.NODES, key=started) == former
    site.well("upgrade.yml", "--tags", "consul_server")
