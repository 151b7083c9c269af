# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role installs of the apply program."""

from __future__ import annotations

from pathlib import Path

import yaml

ROLE = Path(__file__).resolve().parents[4] / "roles" / "nginx"


def test_every_module_of_the_program_is_installed() -> None:
    """One that is missing on the host ends the program before it has applied anything."""
    installed = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__nginx_modules"]
    assert sorted(installed) == sorted(path.stem for path in (ROLE / "files" / "nginx_edge").glob("*.py"))
