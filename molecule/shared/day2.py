# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks of later days, with the versions that a test wants, and what a host is made of."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import lab

# The version from which the tests upgrade; DAY2_FROM names another one.
OLD = os.environ.get("DAY2_FROM", "1.20.1")
NEW = "1.22.5"
OLD_TEMPLATE, NEW_TEMPLATE = "0.41.1", "0.42.1"

# The distribution has one version of each package, so the former one is the same under a lower number: its upgrade runs all that an upgrade runs.
FORMER_PACKAGES = r"""
set -e
cd "$(mktemp -d)"
for package in nginx nginx-common libnginx-mod-stream docker.io; do
    dpkg-query --status "$package" >/dev/null 2>&1 || continue
    apt-get -qq download "$package"
    dpkg-deb -R "$package"_*.deb tree
    sed -Ei 's/^Version: .*/&~former/; /^(Pre-)?Depends:/s/ \([^)]*\)//g' tree/DEBIAN/control
    dpkg-deb -b tree "former-$package.deb" >/dev/null
    rm -rf tree
done
DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i former-*.deb
"""

# Everything that a person or a package would miss: files with owner, mode and content, users, groups, packages, and what starts at boot.
FINGERPRINT = r"""
cd /
find etc usr/local opt srv home root var/lib var/spool -xdev \( -path var/lib/apt -o -path var/lib/dpkg -o -path var/lib/docker -o -path var/lib/containerd \
    -o -path var/lib/systemd -o -path etc/ssl/certs -o -path root/.ansible -o -path home/ops/.ansible \) -prune -o \( -type f -o -type l -o -type d \) -print \
    | sort | while read -r path; do
        if [ -L "$path" ]; then echo "file $path -> $(readlink "$path")"
        elif [ -d "$path" ]; then echo "file $path/ $(stat -c '%U %G %a' "$path")"
        else echo "file $path $(stat -c '%U %G %a' "$path") $(sha256sum < "$path" | cut -c1-12)"; fi
    done
getent passwd | sed 's/^/user /'
getent group | sed 's/^/group /'
dpkg-query -W -f 'package ${Package} ${db:Status-Status}\n'
systemctl list-unit-files --no-legend --state=enabled | awk '{print "enabled " $1}'
"""


class Run(t.NamedTuple):
    """Runs playbooks with the versions of a test, and keeps the copies of snapshots apart."""

    backups: Path

    def __call__(self, playbook: str, *arguments: str, version: str = NEW, inventory: Path = lab.INVENTORY, **variables: t.Any) -> lab.Play:
        """Run it."""
        extra = {"platform_security": "open", "consul_server_version": version, "platform_backup_directory": str(self.backups), **variables}
        if version == OLD != NEW:
            extra["consul_template_version"] = OLD_TEMPLATE
        return lab.play(f"playbooks/{playbook}", *arguments, variables=extra, inventory=inventory)

    def well(self, playbook: str, *arguments: str, **variables: t.Any) -> lab.Play:
        """Run it, and it succeeds."""
        result = self(playbook, *arguments, **variables)
        assert result.status == 0, result.output[-8000:]
        print(f"{playbook} {' '.join(arguments)}: {result.seconds:.0f} s, {result.changed} changes")
        return result


def versions() -> dict[str, str]:
    """What every agent runs."""
    return {node: str(json.loads(lab.run(node, "curl -s http://127.0.0.1:8500/v1/agent/self"))["Config"]["Version"]) for node in lab.NODES}


def former_packages(node: str) -> list[str]:
    """The packages of a node that an upgrade should replace."""
    return [line for line in lab.run(node, "dpkg-query -W -f '${Package} ${Version}\\n'").splitlines() if line.endswith("~former")]


def template_version(node: str) -> str:
    """The consul-template that runs on an edge."""
    return lab.run(node, '"/proc/$(systemctl show -P MainPID consul-template)/exe" -version 2>&1').split()[1].lstrip("v")


def leader() -> str:
    """The node that leads."""
    address = lab.run("consul-1", "curl -s http://127.0.0.1:8500/v1/status/leader").strip('"').partition(":")[0]
    return next(node for node, own in lab.NODES.items() if own == address)


def started(node: str) -> int:
    """When the node's agent was started, in microseconds since boot; the nodes share one kernel."""
    return int(lab.run(node, "systemctl show consul --property=ActiveEnterTimestampMonotonic --value"))
