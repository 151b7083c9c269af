# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays on this machine as the only host, with the roles and plugins of this tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Done(t.NamedTuple):
    """How a run of ansible-playbook ended."""

    status: int
    #: What it printed.
    output: str

    @property
    def text(self) -> str:
        """The output without line breaks, which Ansible also makes within sentences."""
        return " ".join(self.output.split())

    @property
    def changed(self) -> bool:
        """Whether exactly one task changed something."""
        return "changed=1 " in self.output


def play(directory: Path, playbook: str, *arguments: str, **variables: t.Any) -> Done:
    """Run a playbook on the host ``n1``, which is this machine, with these extra variables.

    Args:
        directory: where its files are written, and where it runs.
        playbook: its text.
    """
    (directory / "play.yml").write_text(playbook, encoding="utf-8")
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (directory / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"n1": local}}}), encoding="utf-8")
    # A vault of whoever runs the tests is none of theirs.
    environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_VAULT_PASSWORD_FILE"}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}
    program = Path(sys.executable).parent / "ansible-playbook"
    done = subprocess.run(
        [str(program), "-i", "hosts.yml", "play.yml", "-e", json.dumps(variables), *arguments],
        cwd=directory,
        env={**environment, "ANSIBLE_INJECT_FACT_VARS": "false"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Done(done.returncode, done.stdout + done.stderr)
