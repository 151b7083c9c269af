# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node is a container that runs systemd, named by REGISTRATOR_NODE."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from registrator_node import IMAGE, PREFIX, Node


@pytest.fixture(scope="session", name="session_node")
def fixture_session_node() -> Node:
    name = os.environ.get("REGISTRATOR_NODE", "")
    if not name:
        pytest.fail("set REGISTRATOR_NODE to the name of a node container with Docker, a Consul agent (unit consul) and the role applied")
    node = Node(name)
    node.run(
        f"docker image inspect {IMAGE} >/dev/null 2>&1 || {{ d=$(mktemp -d) && mkdir $d/bin && cp /bin/busybox $d/bin/ &&"
        f" for name in sh sleep true false test cat httpd; do ln -s busybox $d/bin/$name; done && tar -C $d -c . | docker import - {IMAGE}; }}"
    )
    return node


@pytest.fixture(name="node")
def fixture_node(session_node: Node) -> Iterator[Node]:
    def clean() -> None:
        # The tests start Docker more often than systemd allows for a service that fails.
        session_node.run("systemctl reset-failed docker docker.socket; systemctl start docker consul registrator")
        session_node.run(f"docker ps -aq --filter name=^{PREFIX} | xargs -r docker rm -f")
        session_node.settled(40)

    clean()
    yield session_node
    clean()
