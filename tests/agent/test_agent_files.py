# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command of the agent's unit, run with a real Consul: what an earlier installation left next to its files has no effect."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import typing as t
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

from edge_rig import free_port, poll, tool

UNIT = """
- name: Unit
  hosts: all
  gather_facts: false
  vars_files: [ROLE/defaults/main.yml, ROLE/vars/main.yml]
  tasks:
    - name: Write it
      ansible.builtin.template:
        src: ROLE/templates/consul.service.j2
        dest: "{{ target }}"
        mode: "0600"
"""
FOREIGN = """
encrypt = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvwPfrYOrs="
service { name = "forgotten", port = 1 }
"""


def ask_json(url: str) -> t.Any:
    """Return the answer of the agent's API."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def command(directory: Path, security: str) -> list[str]:
    """Return the command of the unit, as the role writes it for a form."""
    target = directory / "consul.service"
    (directory / "play.yml").write_text(UNIT.replace("ROLE", str(ROOT / "roles" / "consul_server")), encoding="utf-8")
    variables = {"target": str(target), "consul_server_security": security, "ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    done = subprocess.run(
        [str(BIN / "ansible-playbook"), "-i", "node,", "-e", json.dumps(variables), str(directory / "play.yml")],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in target.read_text(encoding="utf-8").splitlines() if line.startswith("ExecStart="))
    return shlex.split(line.removeprefix("ExecStart="))


@pytest.mark.parametrize(("security", "files"), [("none", ["consul.json"]), ("offer", ["consul.json"]), ("require", ["consul.json", "tokens.json"])])
def test_only_the_files_of_the_role_count(tmp_path: Path, security: str, files: list[str]) -> None:
    configuration = tmp_path / "consul.d"
    configuration.mkdir()
    port = free_port()
    own: dict[str, t.Any] = {
        "node_name": "node",
        "server": True,
        "bootstrap": True,
        "bind_addr": "127.0.0.1",
        "data_dir": str(tmp_path / "data"),
        "ports": {"http": port, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_lan": free_port(), "serf_wan": -1, "server": free_port()},
    }
    (configuration / "consul.json").write_text(json.dumps(own), encoding="utf-8")
    (configuration / "tokens.json").write_text('{"node_meta": {"tokens": "read"}}', encoding="utf-8")
    (configuration / "consul.hcl").write_text(FOREIGN, encoding="utf-8")
    (configuration / "zz.json").write_text('{"node_meta": {"foreign": "read"}}', encoding="utf-8")

    arguments = [word.replace("/etc/consul.d", str(configuration)) for word in command(tmp_path, security)[1:]]
    with (tmp_path / "log").open("wb") as log:
        agent = subprocess.Popen([tool("consul", "CONSUL"), *arguments], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}/v1/agent"
        found = poll("the agent answers", lambda: ask_json(f"{url}/self"))
        assert ask_json(f"{url}/services") == {}
        # An agent with a key keeps it in a keyring.
        assert not (tmp_path / "data" / "serf" / "local.keyring").exists(), "the key of the earlier installation counts"
        assert {"foreign", "tokens"} & set(found["Meta"]) == ({"tokens"} if "tokens.json" in files else set())
    finally:
        agent.terminate()
        agent.wait(20)
