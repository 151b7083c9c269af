# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the control node itself must have. Private to the collection, pure.

Ansible notices a missing package in the task that needs it, which may be the one that recovers a lost cluster.
"""

from __future__ import annotations

import importlib.util
import typing as t
from collections.abc import Callable, Iterator

from .inventory_rules import Problem

#: The packages of requirements.in that Ansible does not bring along in every form, and their modules.
PACKAGES = ("cryptography", "jmespath", "netaddr")


def control_node_problems(find: Callable[[str], t.Any] = importlib.util.find_spec) -> Iterator[Problem]:
    """Find Python packages that are missing where ansible-playbook runs."""
    missing = [name for name in PACKAGES if find(name) is None]
    if missing:
        names = " and ".join(", ".join(missing).rsplit(", ", 1))
        yield Problem(
            "",
            "control_node",
            f"Python of the control node lacks {names}",
            f"run 'pip install {' '.join(missing)}' in the environment of ansible-playbook",
        )
