# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot of a secure cluster, restored into new servers that bear the names of the old ones."""

from __future__ import annotations

import base64
from pathlib import Path

import lab
import secure

KEY = "/v1/kv/restore/answer"
# Machines that are gone without a good-bye. Docker, the edge and the secrets of the control node are as they were.
GONE = "systemctl kill -s KILL consul; systemctl disable --now consul; rm -rf /var/lib/consul /etc/consul.d/consul.json /etc/systemd/system/consul.service"


def identities() -> dict[str, str]:
    """Return the ids of the catalogue's nodes."""
    return {node["Node"]: node["ID"] for node in secure.ask("consul-1", "/v1/catalog/nodes?consistent", secure.token("operator")).json()}


def test_three_new_servers_get_everything_back(tmp_path: Path) -> None:
    management = secure.token("management")
    assert secure.ask("consul-1", KEY, management, method="PUT", body=42).status == 200
    old = identities()
    kept = secure.play("backup", platform_backup_directory=str(tmp_path))
    assert kept.status == 0, kept.output[-6000:]
    (snapshot,) = tmp_path.glob("consul-*.snap")
    for node in lab.NODES:
        lab.run(node, GONE)
    made = secure.play("site")
    assert made.status == 0, made.output[-6000:]
    assert secure.ask("consul-1", KEY, management).status == 404
    new = identities()
    assert set(new) == set(old) and not set(new.values()) & set(old.values())

    restored = secure.play("restore", consul_backup_file=str(snapshot), platform_backup_directory=str(tmp_path))
    assert restored.status == 0, restored.output[-6000:]
    answer = secure.ask("consul-1", KEY, management).json()
    assert base64.b64decode(answer[0]["Value"]) == b"42"
    assert identities() == new, "the new machines are in the catalogue, and the old ones are not"
    # Nothing is left to repair, and the names are found.
    again = secure.play("site")
    assert again.status == 0 and again.changed == 0, again.changes() + again.output[-3000:]
    for node in lab.NODES:
        lab.run(node, "getent hosts consul.service.dc1.consul")
