# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action, run by Ansible itself on made inventories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[4]
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")

PLAYBOOK = """
- hosts: all
  gather_facts: false
  vars:
    consul_server_passed_by_the_play: never looked at
  tasks:
    - name: Report a fact as a role does
      ansible.builtin.set_fact:
        consul_server_some_fact: 1
        cacheable: true
    - name: Look
      trinode.platform.role_variables:
        shared: {platform: {platform_address: {type: str}}}
        ignored: [registrator_legacy_*]
        report_only: "{{ report_only | default(true) }}"
      register: __consul_server_registered
    - name: Tell
      ansible.builtin.debug:
        msg: "JSON {{ __consul_server_registered.problems | to_json }} END"
"""


def play(directory: Path, inventory: dict[str, t.Any], *arguments: str) -> tuple[int, str]:
    """Run the playbook; its status and output."""
    (directory / "play.yml").write_text(PLAYBOOK)
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"n1": inventory}}}, sort_keys=False))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_INJECT_FACT_VARS": "true",
        "ANSIBLE_FORCE_COLOR": "0",
    }
    done = subprocess.run(
        [ANSIBLE_PLAYBOOK, "-i", "hosts.yml", "play.yml", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def problems(output: str) -> list[dict[str, str]]:
    """What the action found."""
    text = output[output.index("JSON [") + 5 :].split(" END")[0]
    return t.cast("list[dict[str, str]]", json.loads(" ".join(line.strip() for line in text.splitlines()).replace("''", "'")))


def test_variables_of_an_inventory(tmp_path: Path) -> None:
    inventory = {
        "consul_server_version": "1.22.5",
        "consul_server_verson": "1.22.5",
        "consul_server_ui": "perhaps",
        "consul_server_dns_port": "{{ consul_server_http_port - 447 }}",
        "consul_server_log_level": "{{ ansible_facts['nothing'] }}",
        "consul_server_node_name": "{{ missing }}",
        "platform_adress": "192.0.2.1",
        "registrator_legacy_x": 1,
        "__consul_server_internal": 1,
        "hospital_network": "192.0.2",
    }
    status, output = play(tmp_path, inventory, "-e", "plattform_address=1")
    assert status == 0, output
    found = problems(output)
    texts = [f"{one['message']}; {one['remedy']}" for one in found]
    assert [text.split(" ")[0] for text in texts] == [
        "consul_server_verson",
        "platform_adress",
        "plattform_address",
        "consul_server_node_name",
        "consul_server_ui",
    ], texts
    assert "hosts.yml:5) is no variable of the role consul_server; did you mean consul_server_version?" in texts[0]
    assert "did you mean platform_address?" in texts[1]
    assert "did you mean platform_address?" in texts[2]
    assert "cannot be evaluated: 'missing' is undefined" in texts[3]
    assert "unable to convert to bool" in texts[4]


def test_it_fails_on_its_own(tmp_path: Path) -> None:
    status, output = play(tmp_path, {"consul_server_verson": "1"}, "-e", '{"report_only": false}')
    assert status == 2
    assert "1. n1: consul_server_verson" in output
    assert "TASK [Tell]" not in output
