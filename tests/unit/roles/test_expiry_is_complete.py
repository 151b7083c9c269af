# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every certificate that a role writes on a host is one of those whose end is checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROLES = Path(__file__).resolve().parents[3] / "roles"
# As the tasks name them, with the variable of the directory in front.
PEM = re.compile(r"""["'\s]((?:\{\{[^}]*\}\}|/)[^"'\s]*\.pem)["'\s]""")
KEYS = {"{{ __consul_server_tls_directory }}/key.pem"}
# Files that have a variable of their own.
NAMED = {"{{ __consul_server_rpc_authorities }}": "{{ __consul_server_tls_directory }}/authorities.pem"}


def written(role: str) -> set[str]:
    """Return the PEM files in the constants of a role."""
    return set(PEM.findall((ROLES / role / "vars" / "main.yml").read_text(encoding="utf-8"))) - KEYS


def checked(role: str) -> str:
    """Return what the check of a role names, with every file by its path."""
    text = (ROLES / role / "tasks" / "expiry.yml").read_text(encoding="utf-8")
    for name, path in NAMED.items():
        text = text.replace(name, path)
    return text


def test_the_agents_certificates_are_checked() -> None:
    files = written("consul_server")
    assert len(files) >= 3, "the constants of the role are written in another way"
    assert [file for file in sorted(files) if file not in checked("consul_server")] == []


def test_the_edges_certificates_are_checked() -> None:
    text = checked("nginx")
    assert "{{ __nginx_tls_directory }}/*.pem" in text and "{{ __nginx_state }}/live/tls/*.pem" in text


@pytest.mark.parametrize("role", sorted(path.name for path in ROLES.iterdir() if path.is_dir()))
def test_no_other_role_writes_certificates(role: str) -> None:
    if not (ROLES / role / "tasks" / "expiry.yml").exists() and (ROLES / role / "vars" / "main.yml").exists():
        assert not written(role), f"{role} writes certificates: check their end in tasks/expiry.yml, and in playbooks/check_expiry.yml"
