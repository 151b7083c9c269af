# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody breaks by hand, the next run of the site playbook repairs."""

from __future__ import annotations

import typing as t

import lab
import pytest


class Damage(t.NamedTuple):
    """What is broken, and how one sees that it is whole again."""

    node: str
    harm: str
    proof: str
    unit: str


DAMAGES = {
    "nginx of an edge stopped": Damage("consul-1", "systemctl stop nginx", "systemctl is-active nginx && curl -fsS http://127.0.0.1:8098/generation", "nginx"),
    "unit file broken": Damage(
        "consul-2",
        "echo nonsense > /etc/systemd/system/consul-template.service && systemctl daemon-reload && systemctl kill consul-template",
        "systemctl is-active consul-template && grep -q ExecStart /etc/systemd/system/consul-template.service",
        "consul-template",
    ),
    "data directory closed": Damage(
        "consul-3",
        "chmod 000 /var/lib/consul && chown root /var/lib/consul && systemctl kill --signal=KILL consul",
        "systemctl is-active consul && test \"$(stat -c '%U %a' /var/lib/consul)\" = 'consul 750'",
        "consul",
    ),
    "docker stopped": Damage("consul-3", "systemctl stop docker.socket docker", "docker info", "docker"),
    "registrator disabled": Damage(
        "consul-1", "systemctl disable --now registrator", "systemctl is-active registrator && systemctl is-enabled registrator", "registrator"
    ),
    "resolver overwritten": Damage("consul-2", "echo 'nameserver 192.0.2.53' > /etc/resolv.conf", "getent hosts consul.service.dc1.consul", "consul"),
}


@pytest.fixture(scope="module")
def repair() -> lab.Play:
    """One run after all the damage, which must then also be at rest."""
    for damage in DAMAGES.values():
        lab.run(damage.node, damage.harm)
    return lab.play("site.yml")


def test_the_run_succeeds(repair: lab.Play) -> None:
    assert repair.status == 0, repair.output[-8000:]
    assert repair.changed > 0


@pytest.mark.parametrize("name", DAMAGES)
def test_repaired(repair: lab.Play, name: str) -> None:
    damage = DAMAGES[name]
    lab.wait_for(
        lambda: lab.run(damage.node, f"{damage.proof} >/dev/null && echo whole").endswith("whole"),
        30,
        f"{damage.node}: {name}",
        lambda: lab.journal(damage.node, damage.unit) + repair.changes(),
    )


@pytest.mark.usefixtures("repair")
def test_nothing_is_left_to_do() -> None:
    result = lab.play("site.yml")
    assert result.status == 0, result.output[-6000:]
    assert result.changed == 0, result.changes()
