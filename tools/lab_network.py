#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses a network for test nodes that this machine already knows under another name.

The addresses of the hospital inventory are many people's home network: nodes that took them would cut this machine off.
"""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import sys


def overlaps(wanted: ipaddress.IPv4Network, routes: list[dict[str, str]], own_devices: set[str]) -> list[str]:
    """The routes of this machine that the wanted network would collide with.

    Args:
        wanted: the network of the nodes.
        routes: what `ip -json route` says.
        own_devices: bridges that carry the wanted network for these very nodes already.
    """
    found = []
    for route in routes:
        destination = route.get("dst", "default")
        if destination == "default" or route.get("dev") in own_devices:
            continue
        if wanted.overlaps(ipaddress.ip_network(destination, strict=False)):
            found.append(f"{destination} on {route.get('dev')}")
    return found


def with_networks(found: list[str], listing: str) -> list[str]:
    """Add the name of the Docker network to each route that leads to the bridge of one.

    Args:
        found: routes, each with its device at the end.
        listing: id and name of each Docker network, a line each.
    """
    names = {f"br-{line.split()[0][:12]}": line.split()[1] for line in listing.splitlines() if line.strip()}
    bridges = {text: names.get(text.rpartition(" ")[2]) for text in found}
    remedy = " (Docker network {0}: 'docker network rm {0}' once it is unused)"
    return [text + (remedy.format(name) if name else "") for text, name in bridges.items()]


def own_bridges(name: str) -> set[str]:
    """The bridge of the Docker network of that name, when there is one."""
    answer = subprocess.run(["docker", "network", "inspect", name], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        return set()
    return {f"br-{network['Id'][:12]}" for network in json.loads(answer.stdout)}


def main() -> int:
    """Entry point: lab_network.py NAME PREFIX."""
    name, prefix = sys.argv[1:]
    if not re.fullmatch(r"(\d{1,3}\.){2}\d{1,3}", prefix) or any(int(part) > 255 for part in prefix.split(".")):
        print(f"error: LAB_NETWORK is '{prefix}', but it takes the first three numbers of an IPv4 network, as in LAB_NETWORK=10.99.0", file=sys.stderr)
        return 1
    wanted = ipaddress.IPv4Network(f"{prefix}.0/24")
    routes = json.loads(subprocess.run(["ip", "-4", "-json", "route"], capture_output=True, text=True, check=True).stdout)
    found = overlaps(wanted, routes, own_bridges(name))
    if found:
        command = ["docker", "network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}"]
        found = with_networks(found, subprocess.run(command, capture_output=True, text=True, check=False).stdout)
        print(
            f"error: the network {wanted} of the nodes overlaps with {', '.join(found)} of this machine:"
            " choose another one with LAB_NETWORK and its first three numbers, as in LAB_NETWORK=10.99.0",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
