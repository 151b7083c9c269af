# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node that tests of the registration may treat badly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from registration import Node


@pytest.fixture(scope="session", name="clean_node")
def fixture_clean_node() -> Node:
    """The node that is no edge."""
    found = Node("consul-3")
    found.clean()
    return found


@pytest.fixture(name="node")
def fixture_node(clean_node: Node) -> Iterator[Node]:
    """The same; whatever a test did to it, afterwards it is whole and nothing of the test is left on it."""
    yield clean_node
    clean_node.clean()
