# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's two modes, and the change from one to the other.

No registrator image can be had without a registry, so an image that only sleeps shows how the container is made: its arguments, volume and network.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registrator_node import IMAGE, PREFIX, Node

ROOT = Path(__file__).resolve().parents[2]
STANDIN = "registrator-standin:1"


def converge(tmp_path: Path, node: Node, *options: str, **variables: Any) -> tuple[int, str]:
    """Apply the role; gives the number of changes and the whole output."""
    playbook = tmp_path / "play.yml"
    playbook.write_text("- hosts: all\n  roles: [trinode.platform.registrator]\n", encoding="utf-8")
    inventory = tmp_path / "hosts"
    inventory.write_text(f"{node.name} ansible_connection=community.docker.docker ansible_python_interpreter=/usr/bin/python3\n", encoding="utf-8")
    values = {"registrator_address": node.address, **variables}
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), str(playbook), "-e", json.dumps(values), *options]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False, timeout=300)
    found = re.search(r"changed=(\d+).*failed=(\d+)", done.stdout)
    assert found, done.stdout + done.stderr
    return (int(found[1]) if found[2] == "0" else -1), done.stdout


@pytest.fixture(name="standin")
def fixture_standin(node: Node, tmp_path: Path) -> Iterator[Node]:
    node.run(
        f'docker rm -f registrator >/dev/null 2>&1; printf \'FROM {IMAGE}\\nENTRYPOINT ["/bin/sh", "-c", "exec sleep 3600", "registrator"]\\n\''
        f" | DOCKER_BUILDKIT=0 docker build -q -t {STANDIN} -"
    )
    yield node
    changes, output = converge(tmp_path, node)
    assert changes >= 0, output


CONTAINER = {"registrator_mode": "container", "registrator_image": STANDIN, "registrator_image_pull": "never"}


def test_second_run_and_check_mode_change_nothing(node: Node, tmp_path: Path) -> None:
    assert converge(tmp_path, node)[0] >= 0
    assert converge(tmp_path, node)[0] == 0
    assert converge(tmp_path, node, "--check")[0] == 0


def test_a_broken_file_is_repaired(node: Node, tmp_path: Path) -> None:
    node.run("echo broken > /usr/local/lib/registrator/registrator/engine.py; rm /etc/systemd/system/registrator.service; systemctl stop registrator")
    changes, output = converge(tmp_path, node)
    assert changes > 0, output
    assert node.run("systemctl is-active registrator") == "active"
    assert converge(tmp_path, node)[0] == 0


def test_container_and_back(standin: Node, tmp_path: Path) -> None:
    standin.start("kept", "-P --expose 80")
    standin.settled()
    registered = standin.catalogue()
    preview, output = converge(tmp_path, standin, "--check", **CONTAINER)
    assert preview > 0, output
    assert standin.run("systemctl is-active registrator") == "active", "check mode must change nothing"

    changes, output = converge(tmp_path, standin, **CONTAINER)
    assert changes > 0, output
    assert converge(tmp_path, standin, **CONTAINER)[0] == 0
    document = json.loads(standin.run("docker inspect registrator"))[0]
    assert document["Config"]["Cmd"] == ["-ip", standin.address, "-cleanup", "-resync", "30", "-retry-attempts", "-1", "consul://127.0.0.1:8500"]
    assert document["HostConfig"]["NetworkMode"] == "host"
    assert document["HostConfig"]["Binds"] == ["/var/run/docker.sock:/tmp/docker.sock:rw"]
    assert document["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert standin.run("ls /etc/systemd/system/registrator.service /usr/local/lib/registrator /usr/local/bin/registrator 2>/dev/null", check=False) == ""
    assert standin.catalogue() == registered, "there must be no gap"

    changes, output = converge(tmp_path, standin, **CONTAINER, registrator_container_preset="seed")
    assert changes > 0, output
    made = json.loads(standin.run("docker inspect registrator"))[0]
    # The seed's own line, typed by hand, is the same container.
    standin.run("docker rm -f registrator")
    standin.run(
        f"docker run --restart=always -d --name=registrator --net=host --volume=/var/run/docker.sock:/tmp/docker.sock {STANDIN} consul://localhost:8500"
    )
    typed = json.loads(standin.run("docker inspect registrator"))[0]
    assert made["Config"]["Cmd"] == typed["Config"]["Cmd"] == ["consul://localhost:8500"]
    assert made["Config"]["Image"] == typed["Config"]["Image"]
    assert made["Config"]["Env"] == typed["Config"]["Env"]
    assert [made["HostConfig"][key] for key in ("NetworkMode", "RestartPolicy")] == [typed["HostConfig"][key] for key in ("NetworkMode", "RestartPolicy")]
    assert made["HostConfig"]["Binds"] == [bind + ":rw" for bind in typed["HostConfig"]["Binds"]]

    standin.run(f"docker rm -f {PREFIX}kept")
    assert converge(tmp_path, standin)[0] > 0
    assert standin.run("docker ps -aq --filter name=^registrator$") == ""
    standin.settled()
    assert converge(tmp_path, standin)[0] == 0


def test_words_that_registrator_would_not_read_are_refused(standin: Node, tmp_path: Path) -> None:
    changes, output = converge(tmp_path, standin, **CONTAINER, registrator_image_arguments=["consul://localhost:8500", "-cleanup"])
    assert changes == -1
    assert "ignores every option after a URI" in output


def test_docker_that_does_not_answer_is_named(node: Node, tmp_path: Path) -> None:
    changes, output = converge(tmp_path, node, registrator_docker_socket="/run/no-docker.sock")
    assert changes == -1
    assert f"Docker on {node.name} does not answer at /run/no-docker.sock" in output
    assert node.run("systemctl is-active registrator") == "active"
    assert converge(tmp_path, node)[0] == 0, "nothing may have been changed"
