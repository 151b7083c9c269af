# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role installs of the apply program."""

from __future__ import annotations

import typing as t
from pathlib import Path

ROLE = Path(__file__).resolve().parents[4] / "roles" / "nginx"
LIBRARY = "/usr/local/lib/nginx-edge/nginx_edge"


def test_every_module_of_the_program_is_installed(role_variable: t.Callable[..., t.Any]) -> None:
    """One that is missing on the host ends the program before it has applied anything."""
    modules = (ROLE / "files" / "nginx_edge").glob("*.py")
    assert role_variable("nginx", "__nginx_modules") == sorted(path.name for path in modules)


def test_modules_of_an_earlier_version_are_removed(role_variable: t.Callable[..., t.Any]) -> None:
    """Neither those of this version are, nor files in other directories."""
    modules = [f"{LIBRARY}/{name}.py" for name in ("cli", "former_name", "state")]
    found = {"files": [{"path": path} for path in (*modules, "/usr/local/sbin/x.py", "/etc/nginx/sites-enabled/x.py")]}
    assert role_variable("nginx", "__nginx_former_modules", __nginx_found=found) == [f"{LIBRARY}/former_name.py"]
