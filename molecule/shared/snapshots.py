# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that comes back from a snapshot of its virtual machine: what the platform wrote to the disk since then is gone.

Docker's own files stay, because what runs is the operator's. Between the snapshot and the return, containers get other
ports, so what the disk of then says leads to others now.
"""

from __future__ import annotations

import contextlib
import shlex

import lab
from callers import EXPOSED
from faults import Proof, nodes_lost

#: What the platform keeps on a node.
ON_DISK = (
    *(f"/etc/{name}" for name in ("consul.d", "consul-template.d", "registrator", "nginx-edge")),
    *(f"/var/lib/{name}" for name in ("consul", "nginx-edge", "registrator")),
)
_ARCHIVE, _RESTORED = "/lab-snapshot.tar", "/lab-snapshot.restored"
#: Frozen meanwhile, so that the copy is of one moment, as a snapshot of the machine is.
_WRITERS = ("consul", "registrator", "consul-template", "nginx-edge-apply")
_UNIT = f"""
[Unit]
Description=Brings the disk of the snapshot back before anything runs
DefaultDependencies=no
ConditionPathExists={_ARCHIVE}
Before=sysinit.target systemd-tmpfiles-setup.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'rm -rf {" ".join(ON_DISK)} && tar -xpf {_ARCHIVE} -C / && mv {_ARCHIVE} {_RESTORED}'

[Install]
WantedBy=sysinit.target
"""


def take(node: str) -> None:
    """Copy what is on the disk now; the next start of the node begins with it."""
    freeze = "; ".join(f"systemctl kill -s @SIGNAL@ {name} 2>/dev/null" for name in _WRITERS)
    paths = " ".join(path.lstrip("/") for path in ON_DISK)
    lab.run(
        node,
        f"printf %s {shlex.quote(_UNIT)} > /etc/systemd/system/lab-restore.service; systemctl daemon-reload;"
        f" systemctl enable -q lab-restore.service; rm -f {_RESTORED}; sync;"
        f" {freeze.replace('@SIGNAL@', 'STOP')};"
        f" tar -cpf {_ARCHIVE} -C / --ignore-failed-read $(cd / && ls -d {paths} 2>/dev/null); status=$?;"
        f" {freeze.replace('@SIGNAL@', 'CONT')}; exit $status",
    )


def give_other_ports(node: str) -> None:
    """Start the instances of the node anew."""
    lab.run(node, f"docker restart -t 1 {' '.join(EXPOSED)} faultmore >/dev/null")


@contextlib.contextmanager
def restored(*nodes: str) -> Proof:
    """The power is cut, and the nodes come back with disks of the past, each of another moment."""
    for node in nodes:
        take(node)
        give_other_ports(node)
    with nodes_lost(*nodes) as proof:
        yield f"{proof}, and begin with the disk of a snapshot"
    for node in nodes:
        lab.wait_for(lambda node=node: lab.run(node, f"test -e {_RESTORED} && echo yes"), 60, f"{node} began with the snapshot")


def forget(*nodes: str) -> None:
    """Remove what this left on the nodes, as soon as systemd answers there."""
    unit = "/etc/systemd/system/lab-restore.service"
    command = f"systemctl disable -q lab-restore.service && rm -f {_ARCHIVE} {_RESTORED} {unit} && echo yes"
    for node in nodes:
        lab.wait_for(lambda node=node: lab.run(node, command), 60, f"{node} forgets the snapshot")
