# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the task that makes the first secret does in a git repository, run by Ansible itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from control_node import ANSIBLE_PLAYBOOK, ROOT

PLAY = """
- name: Secrets
  hosts: all
  gather_facts: false
  tasks:
    - name: Make the first secret
      trinode.platform.site_secrets:
        directory: "{{ place }}/secrets"
        stages: {n1: absent}
        key_files: ["{{ place }}/own.key"]
"""


def test_a_site_is_warned_of_what_git_has_in_clear(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**environment, "ANSIBLE_INJECT_FACT_VARS": "false"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def play(*arguments: str) -> str:
        given = json.dumps({"place": str(tmp_path)})
        return run(str(ANSIBLE_PLAYBOOK), "-i", "n1,", "play.yml", "-e", given, *arguments)

    run("git", "init", "--quiet")
    (tmp_path / "play.yml").write_text(PLAY, encoding="ascii")
    (tmp_path / "own.key").write_text("-----BEGIN PRIVATE KEY-----\n", encoding="ascii")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "consul_ca_key.txt").write_text("of before\n", encoding="ascii")
    run("git", "add", "secrets")

    output = play()
    assert f"{tmp_path}/secrets: git has or would take consul_ca_key.txt, which are not encrypted" in output
    assert f"{tmp_path}/own.key: git has or would take this private key" in output
    assert "of before" not in output
    run("git", "rm", "-r", "--quiet", "--cached", "secrets")
    run("git", "add", "-A")
    staged = run("git", "diff", "--cached", "--name-only").split()
    assert staged == [name for name in staged if not name.startswith("secrets/")] and "play.yml" in staged
    assert f"{tmp_path}/secrets: git has" not in play()
