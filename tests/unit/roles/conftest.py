# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of a role, as Ansible works them out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(name="role_variable")
def fixture_role_variable() -> t.Callable[..., t.Any]:
    """Return a function that gives a variable of a role, in a process of its own."""

    def value(role: str, name: str, **variables: object) -> t.Any:
        folder = ROOT / "roles" / role
        given = json.dumps({"role_path": str(folder), **variables})
        command = [str(Path(sys.executable).parent / "ansible"), "localhost", "-m", "debug", "-a", f"var={name}"]
        command += ["--playbook-dir", str(folder), "-e", f"@{folder}/vars/main.yml", "-e", given]
        settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120, check=True)
        return json.loads(done.stdout.partition("=>")[2])[name]

    return value
