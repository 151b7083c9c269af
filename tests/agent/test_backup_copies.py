# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of a real Consul, brought to the control node and back by the role, with and without a vault password."""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import Consul, tool
from local_play import Done, play

PROGRAM = ROOT / "roles" / "consul_backup" / "files" / "consul_backup.py"
PLAY = """
- name: Copies
  hosts: all
  gather_facts: false
  tasks:
    - name: Take
      ansible.builtin.include_role: {name: trinode.platform.consul_backup, tasks_from: take}
      when: not consul_backup_file
    - name: Check
      trinode.platform.snapshot_check: {file: "{{ consul_backup_file }}", program: "{{ check_program }}"}
      when: consul_backup_file | length > 0
    - name: Copy as the restore does
      ansible.builtin.copy: {src: "{{ consul_backup_file }}", dest: "{{ restoring }}", mode: "0600"}
      diff: false
      when: consul_backup_file | length > 0
"""


class Control:
    """A control node with one server of Consul, which is this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.copies = directory, directory / "backups"
        binary = tool("consul", "CONSUL_BIN")
        self.agent = Consul(binary, directory)
        self.agent.ask("PUT", "/v1/kv/answer", "a secret of the cluster")
        config = {"directory": str(directory / "node"), "consul": binary, "url": f"http://{self.agent.address}"}
        (directory / "config.json").write_text(json.dumps(config), encoding="ascii")
        self.program = directory / "consul-backup"
        command = f"exec {sys.executable} -IB {PROGRAM} --config {directory / 'config.json'}"
        self.program.write_text(f'#!/bin/sh\n{command} "$@"\n', encoding="ascii")
        self.program.chmod(0o755)
        (directory / "password").write_text("of the vault\n", encoding="ascii")

    def play(self, *arguments: str, file: str = "") -> Done:
        variables = {
            "__consul_backup_program": str(self.program),
            "consul_backup_copy_directory": str(self.copies),
            "consul_backup_file": file,
            "check_program": str(PROGRAM),
            "restoring": str(self.directory / "restoring.snap"),
        }
        return play(self.directory, PLAY, *arguments, **variables)

    def snapshots(self) -> list[Path]:
        return sorted(self.copies.glob("consul-*.snap"))


@pytest.fixture(name="control")
def fixture_control(tmp_path: Path) -> t.Iterator[Control]:
    made = Control(tmp_path)
    try:
        yield made
    finally:
        made.agent.stop()


def test_copies_are_encrypted_with_the_vault_and_come_back(control: Control) -> None:
    plain = control.play()
    assert plain.status == 0, plain.output
    (first,) = control.snapshots()
    assert first.read_bytes()[:2] == b"\x1f\x8b"
    vault = ("--vault-password-file", "password")
    done = control.play(*vault, "-vvv")
    assert done.status == 0, done.output
    assert len(control.snapshots()) == 2
    for copy in control.snapshots():
        assert copy.read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256"), f"{copy} is in clear"
        assert copy.stat().st_mode & 0o777 == 0o600
    assert control.copies.stat().st_mode & 0o777 == 0o700
    # The snapshot as the node answers with it begins like this, in base64.
    assert "H4sI" not in done.output

    last = control.snapshots()[-1]
    back = control.play(*vault, file=str(last))
    assert back.status == 0 and "This snapshot is whole" in back.text, back.output
    of_the_node = control.directory / "node" / last.name
    assert (control.directory / "restoring.snap").read_bytes() == of_the_node.read_bytes()

    (control.directory / "restoring.snap").unlink()
    for arguments in ((), ("--vault-password-file", "hosts.yml")):
        refused = control.play(*arguments, file=str(last))
        said = refused.text
        assert refused.status != 0 and "The cluster was not touched" in said and "give the vault password" in said
        assert not (control.directory / "restoring.snap").exists()


def test_a_damaged_copy_is_refused_by_its_name(control: Control) -> None:
    assert control.play().status == 0
    (copy,) = control.snapshots()
    copy.write_bytes(copy.read_bytes()[:-40])
    for file in (str(copy), str(control.copies / "consul-20260101T000000Z-1.snap")):
        refused = control.play(file=file)
        said = refused.text
        assert refused.status != 0 and "The cluster was not touched" in said and file in said


def test_check_mode_copies_nothing(control: Control) -> None:
    done = control.play("--check")
    assert done.status == 0, done.output
    assert not control.copies.exists()
