# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks/vars/platform.yml makes of an inventory, as the description of the edge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def descriptions(tmp_path: Path) -> dict[str, dict[str, t.Any]]:
    """Return the description that each edge of the hospital's inventory gets."""
    text = "{{ platform_edge_description | to_json }}"
    copy = {"content": text, "dest": f"{tmp_path}/{{{{ inventory_hostname }}}}.json", "mode": "0600"}
    task = {"name": "Write the description", "ansible.builtin.copy": copy, "delegate_to": "localhost"}
    delegate = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    play = {"name": "Show", "hosts": "edge", "gather_facts": False, "vars_files": [f"{ROOT}/playbooks/vars/platform.yml"], "vars": delegate, "tasks": [task]}
    playbook = tmp_path / "show.yml"
    playbook.write_text(yaml.safe_dump([play]))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", f"{ROOT}/inventories/hospital", str(playbook)]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": f"{ROOT}/collections", "ANSIBLE_CONFIG": f"{ROOT}/ansible.cfg"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}


def test_the_edge_knows_the_addresses_of_all_edges(tmp_path: Path) -> None:
    """An instance at one of them with a port that an edge listens on leads back to the edge."""
    hosts = yaml.safe_load((ROOT / "inventories" / "hospital" / "hosts.yml").read_text())
    found = descriptions(tmp_path)
    edges = set((hosts.get("edge") or hosts["all"]["children"]["edge"])["hosts"])
    assert set(found) == edges and len(edges) > 1
    for description in found.values():
        assert len(description["edge_addresses"]) == len(edges)
        assert {22, 53, 8098, 8099, 8300, 8500, 8600} <= set(description["reserved_ports"])
        assert description["edge_addresses"] == next(iter(found.values()))["edge_addresses"]
