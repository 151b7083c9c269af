# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of a cluster with ACLs: by the timer, by hand, restored where they come from, and in three new servers."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import lab
import pytest
import traffic
from day2 import Run

MANAGEMENT = "5ec4e700-0000-4000-8000-000000000001"
TOKEN_FILE = "/etc/consul.d/operator.token"
ACL = {"acl": {"enabled": True, "default_policy": "allow", "tokens": {"initial_management": MANAGEMENT}}}


def consul(command: str, node: str = "consul-1") -> str:
    return lab.run(node, f"CONSUL_HTTP_TOKEN_FILE={TOKEN_FILE} consul {command}")


@pytest.fixture(scope="module", name="guarded")
def fixture_guarded(site: Run) -> t.Iterator[Run]:
    """The site with ACLs, and the operator's token on the nodes."""
    site.well("site.yml", "--tags", "consul_server", consul_server_extra_config=ACL)
    for node in lab.NODES:
        lab.run(node, f"umask 077; echo {MANAGEMENT} > {TOKEN_FILE}")
    lab.wait_for(lambda: MANAGEMENT in consul("acl token read -self"), 30, "the cluster has its ACLs")
    yield site
    for node in lab.NODES:
        lab.run(node, f"rm {TOKEN_FILE}")
    site.well("site.yml", "--tags", "consul_server")


@pytest.fixture(scope="module", name="backup")
def fixture_backup(guarded: Run) -> Path:
    """A snapshot with an answer in it, and a token that may read the answer."""
    consul("kv put day2/answer 42")
    consul('acl policy create -name reader -rules \'key_prefix "day2" { policy = "read" }\'')
    consul("acl token create -policy-name reader -secret 5ec4e700-0000-4000-8000-000000000002")
    guarded.well("backup.yml", consul_server_extra_config=ACL)
    copies = sorted(path for path in guarded.backups.glob("consul-*.snap") if "before" not in path.name)
    assert len(copies) == 1
    return copies[0]


def test_copies_are_for_the_operator_alone(backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    assert backup.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("backup")
def test_the_timer_takes_and_keeps(guarded: Run) -> None:
    for node in lab.NODES:
        assert lab.run(node, "systemctl is-active consul-backup.timer") == "active"
        before = json.loads(lab.run(node, "consul-backup status"))["snapshots"]
        lab.run(node, "systemctl start consul-backup.service")
        after = json.loads(lab.run(node, "consul-backup status"))
        assert after["snapshots"] == before + 1 and after["age_seconds"] < 60, after
        assert lab.run(node, "stat -c '%U %a' /var/lib/consul-backup /var/lib/consul-backup/consul-*.snap").splitlines()[0] == "root 700"
        assert set(lab.run(node, "stat -c '%U %a' /var/lib/consul-backup/consul-*.snap").splitlines()) == {"root 600"}
        line = lab.run(node, "systemd-analyze security --no-pager consul-backup.service | tail -n 1")
        assert float(line.split(":")[1].split()[0]) <= 3.5, line
    result = guarded.well("site.yml", "--tags", "consul_backup")
    assert result.changed == 0, result.changes()


@pytest.mark.usefixtures("backup")
def test_no_token_is_shown(guarded: Run) -> None:
    result = guarded.well("backup.yml", "-vvv", consul_server_extra_config=ACL)
    assert MANAGEMENT not in result.output.replace(json.dumps(ACL), "").split("PLAY [")[-1]
    assert MANAGEMENT not in lab.run("consul-1", "cat /proc/[0-9]*/cmdline; journalctl -o cat -u consul-backup")


def test_what_was_changed_by_mistake_comes_back(guarded: Run, backup: Path) -> None:
    consul("kv put day2/answer 41")
    consul("kv put day2/later 1")
    with traffic.Callers() as callers:
        result = guarded.well("restore.yml", consul_backup_file=str(backup), consul_server_extra_config=ACL)
    assert result.changed > 0
    assert consul("kv get day2/answer") == "42"
    assert lab.run("consul-1", "consul kv get day2/later", check=False).startswith("Error")
    traffic.wait_until_served(*lab.NODES)
    callers.saw_no_failure()
    assert list(guarded.backups.glob("*-before-restore.snap")), "what was there before is kept"


@pytest.mark.parametrize("damage", ["missing", "cut", "text"])
def test_a_damaged_snapshot_is_named_and_touches_nothing(guarded: Run, backup: Path, tmp_path: Path, damage: str) -> None:
    bad = tmp_path / "bad.snap"
    if damage != "missing":
        bad.write_bytes(backup.read_bytes()[:-40] if damage == "cut" else b"a text")
    result = guarded("restore.yml", consul_backup_file=str(bad), consul_server_extra_config=ACL)
    assert result.status != 0
    assert "The cluster was not touched" in " ".join(result.output.split()) and str(bad) in result.output
    assert result.changed == 0, result.changes()


def test_check_mode_reads_the_snapshot(guarded: Run, backup: Path) -> None:
    result = guarded("restore.yml", "--check", consul_backup_file=str(backup), consul_server_extra_config=ACL)
    assert result.status == 0, result.output[-4000:]
    assert "This snapshot is whole" in " ".join(result.output.split())


def test_three_new_servers_get_everything_back(guarded: Run, backup: Path) -> None:
    """New machines with the names and addresses of the old ones, which are gone without a good-bye."""
    for node in lab.NODES:
        lab.run(
            node,
            "systemctl kill -s KILL consul; systemctl disable --now consul;"
            " rm -rf /var/lib/consul /etc/consul.d/consul.json /etc/systemd/system/consul.service",
        )
    guarded.well("site.yml", consul_server_extra_config=ACL)
    assert lab.run("consul-1", "consul kv get day2/answer", check=False).startswith("Error")
    guarded.well("restore.yml", consul_backup_file=str(backup), consul_server_extra_config=ACL)
    assert consul("kv get day2/answer") == "42"
    assert "reader" in consul("acl policy list")
    assert lab.run("consul-1", "CONSUL_HTTP_TOKEN=5ec4e700-0000-4000-8000-000000000002 consul kv get day2/answer") == "42"
    traffic.wait_until_served(*lab.NODES)
    with traffic.Callers() as callers:
        assert guarded.well("site.yml", consul_server_extra_config=ACL).changed == 0
    callers.saw_no_failure()
