# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's change of nginx.conf, made by Ansible itself and read by nginx."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from apply_rig import NGINX

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PLAYBOOK = """
- name: Connections
  hosts: all
  gather_facts: false
  tasks:
    - name: Raise
      ansible.builtin.include_role:
        name: trinode.platform.nginx
        tasks_from: connections
"""
# As Debian has it.
DEBIAN = "user www-data;\n\nevents {\n\tworker_connections 768;\n\t# multi_accept on;\n}\nhttp {\n}\n"


def run(directory: Path, text: str, wanted: int, *arguments: str) -> tuple[str, str]:
    """Run the tasks on a file; its text afterwards, and the output."""
    path = directory / "nginx.conf"
    path.write_text(text)
    (directory / "play.yml").write_text(PLAYBOOK)
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (directory / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"edge-1": host}}}))
    variables = {"nginx_worker_connections": wanted, "__nginx_conf": str(path)}
    command = [str(BIN / "ansible-playbook"), "-i", "hosts.yml", "play.yml", "-e", json.dumps(variables), *arguments]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return path.read_text(), done.stdout


def test_a_low_number_is_raised(tmp_path: Path) -> None:
    raised, _ = run(tmp_path, DEBIAN, 8192)
    assert raised == DEBIAN.replace("768;", "8192; # trinode.platform: 768 before")
    again, output = run(tmp_path, raised, 8192)
    assert again == raised and "changed=0" in output
    # The number from before stays that of the distribution.
    higher, _ = run(tmp_path, raised, 9000)
    assert higher == DEBIAN.replace("768;", "9000; # trinode.platform: 768 before")
    assert NGINX
    done = subprocess.run([NGINX, "-t", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True, check=False)
    assert "syntax is ok" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "text",
    [
        DEBIAN.replace("768", "20000"),
        DEBIAN.replace("\tworker", "\t# worker"),
        DEBIAN.replace("\tworker_connections 768;\n", ""),
    ],
)
def test_nothing_else_is_changed(tmp_path: Path, text: str) -> None:
    after, output = run(tmp_path, text, 8192)
    assert after == text and "changed=0" in output
    # What the role cannot raise is said.
    unknown = not re.search(r"^\tworker_connections", text, re.MULTILINE)
    assert ("has no line" in output) is unknown


def test_nothing_is_changed_in_check_mode(tmp_path: Path) -> None:
    after, output = run(tmp_path, DEBIAN, 8192, "--check")
    assert after == DEBIAN and "changed=1" in output


def test_the_removal_restores_the_number(tmp_path: Path) -> None:
    raised, _ = run(tmp_path, DEBIAN, 8192)
    tasks = (ROOT / "roles" / "nginx" / "tasks" / "absent.yml").read_text()
    found = re.search(r"Restore worker_connections.*?regexp: '([^']+)'\n +replace: '([^']+)'", tasks, re.DOTALL)
    assert found
    assert re.sub(found.group(1), found.group(2), raised, flags=re.MULTILINE) == DEBIAN
