# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the engine without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._docker import daemon
from ansible_collections.trinode.platform.plugins.module_utils._docker.daemon import Engine, State
from ansible_collections.trinode.platform.plugins.module_utils._docker.daemon_json import DaemonJsonError, Owned, flag_keys
from ansible_collections.trinode.platform.plugins.module_utils._host.hostfile import MISSING, Entry


def _nothing(_command: list[str]) -> tuple[int, str, str]:
    return 0, "", ""


def test_a_state_survives_its_file(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    assert daemon.load_state(path) == State([], None, [], None)
    owned = [Owned(("dns",), ["10.0.0.1"], False, None)]
    state = State(owned, Entry(text="{}\n"), [], MISSING)
    daemon.save_state(path, state)
    assert daemon.load_state(path) == state


def test_a_damaged_state_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"owned": []}')
    with pytest.raises(DaemonJsonError, match="remove it"):
        daemon.load_state(str(path))


def test_only_the_newest_copies_are_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "daemon.json")
    (tmp_path / "daemon.json.mine.bak").write_text("theirs")
    for day in range(5):
        daemon.back_up(path, Entry(text=str(day)), 2, day * 86400)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["daemon.json.19700104T000000.bak", "daemon.json.19700105T000000.bak", "daemon.json.mine.bak"]
    assert daemon.back_up(path, MISSING, 2, 0) is None
    daemon.back_up(path, MISSING, 0, 0)
    assert [item.name for item in tmp_path.iterdir()] == ["daemon.json.mine.bak"]


def test_flags_come_from_the_unit_and_its_environment(tmp_path: Path) -> None:
    options = tmp_path / "docker"
    options.write_text('DOCKER_OPTS="--dns=9.9.9.9"\n')
    shown = {
        "LoadState": "loaded",
        "FragmentPath": "/lib/systemd/system/docker.service",
        "ExecStart": "{ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS $EXTRA ; ignore_errors=no ; }",
        "Environment": "EXTRA=--debug",
        "EnvironmentFiles": f"{options} (ignore_errors=yes)",
    }
    arguments, where = Engine(_nothing, "docker.service").arguments(shown)
    assert flag_keys(arguments) == {"hosts": "-H", "dns": "--dns", "debug": "--debug"}
    assert str(options) in where
    assert "systemctl cat docker.service" in where


def _shown(command: str, environment: str = "") -> dict[str, str]:
    return {"LoadState": "loaded", "ExecStart": f"{{ path=/usr/sbin/dockerd ; argv[]={command} ; ignore_errors=no ; }}", "Environment": environment}


@pytest.mark.parametrize(
    ("shown", "path"),
    [
        (_shown("/usr/sbin/dockerd -H fd://"), "/etc/docker/daemon.json"),
        (_shown("/usr/bin/dockerd --config-file=/data/docker/daemon.json -H fd://"), "/data/docker/daemon.json"),
        (_shown("/usr/bin/dockerd --config-file /data/docker/daemon.json"), "/data/docker/daemon.json"),
        (_shown("/usr/bin/dockerd --config-file=/a.json --config-file=/b.json"), "/b.json"),
        (_shown("/usr/bin/dockerd $DOCKER_OPTS", "DOCKER_OPTS=--config-file=/opt/d.json"), "/opt/d.json"),
        (_shown("/usr/bin/dockerd $DOCKER_OPTS", '"DOCKER_OPTS=--config-file=/opt/d.json --debug" A=b'), "/opt/d.json"),
        (_shown("/usr/bin/dockerd $DOCKER_OPTS", 'A=b "DOCKER_OPTS=--debug --config-file=/opt/d.json"'), "/opt/d.json"),
        (_shown("/usr/bin/dockerd --config-file=${ROOT}/d.json", "ROOT=/opt"), "/opt/d.json"),
        (_shown("/usr/bin/dockerd --config-file=d.json"), "/d.json"),
    ],
)
def test_the_file_that_dockerd_reads(shown: dict[str, str], path: str) -> None:
    engine = Engine(_nothing, "docker.service")
    assert engine.config_file(engine.arguments(shown)[0]) == path


def test_settings_that_are_in_another_file_are_not_forgotten(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    daemon.save_state(path, State([Owned(("dns",), ["10.0.0.1"], False, None)], None, [], None, "/etc/docker/daemon.json"))
    with pytest.raises(DaemonJsonError, match=r"dockerd reads /data/d\.json .*settings in /etc/docker/daemon\.json"):
        daemon.state_of(path, "/data/d.json")
    daemon.save_state(path, State([], None, [], MISSING, "/etc/docker/daemon.json"))
    assert daemon.state_of(path, "/data/d.json") == State([], None, [], None, "/data/d.json")


@pytest.mark.parametrize(("state", "member"), [("inactive", False), ("", False), ("active", True), ("pending", True), ("error", True), ("locked", True)])
def test_a_member_of_a_swarm(state: str, member: bool) -> None:
    assert daemon.in_swarm({"Swarm": {"LocalNodeState": state}}) is member
    assert not daemon.in_swarm({})


def test_a_swarm_of_an_engine_that_does_not_run(tmp_path: Path) -> None:
    # What is left after `docker swarm leave`.
    (tmp_path / "swarm").mkdir()
    assert not daemon.swarm_on_disk(str(tmp_path))
    (tmp_path / "swarm" / "docker-state.json").write_text("{}")
    assert daemon.swarm_on_disk(str(tmp_path))


def test_an_engine_that_does_not_run_has_read_nothing() -> None:
    assert not Engine(_nothing, "docker.service").runs_with({"ActiveState": "inactive", "MainPID": "0"}, "/etc/docker/daemon.json")


def test_a_socket_without_an_engine_is_a_reason(tmp_path: Path) -> None:
    path = str(tmp_path / "docker.sock")
    error = daemon.engine_error(path)
    assert error is not None
    assert path in error


@pytest.mark.parametrize(
    ("journal", "reason"),
    [
        (["time=x level=info msg=up", "failed to start daemon: no driver", "docker.service: Failed"], "failed to start daemon: no driver"),
        (["something else"], "something else"),
        ([], "its journal says nothing"),
    ],
)
def test_the_reason_is_found_in_the_journal(journal: list[str], reason: str) -> None:
    assert daemon.reason_in(journal) == reason
