#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_copy
short_description: Keep a copy of a node's snapshot on the control node
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Copies a snapshot of Consul from the node to a directory of the control node, compares its checksum, and removes the
    oldest copies.
  - A snapshot holds every token of the cluster. The file has mode 0600 and, when a vault password is configured, is
    encrypted with it before it is on the disk. Copies that are there and not encrypted yet are encrypted, too.
  - The directory gets a C(.gitignore) for the snapshots, unless it has one.
options:
  src:
    description: The snapshot on the node. Its name is that of the copy.
    type: str
    required: true
  sha256:
    description: The SHA-256 of the snapshot.
    type: str
    required: true
  directory:
    description: A directory of the control node. It is made, and closed to other users.
    type: path
    required: true
  keep:
    description: How many copies with the same label to keep.
    type: int
    default: 48
attributes:
  check_mode:
    description: Can run in check mode and copies nothing then.
    support: full
  diff_mode:
    description: A snapshot is not shown.
    support: none
seealso:
  - module: trinode.platform.snapshot_check
"""

EXAMPLES = r"""
- name: Copy the snapshot to the control node
  trinode.platform.snapshot_copy:
    src: /var/lib/consul-backup/consul-20260101T120000Z-4711.snap
    sha256: "{{ taken.sha256 }}"
    directory: /home/ops/backups
"""

RETURN = r"""
path:
  description: The copy.
  type: str
  returned: success, and not in check mode
removed:
  description: The names of older copies that were removed.
  type: list
  elements: str
  returned: success, and not in check mode
encrypted:
  description: The names of older copies that were encrypted.
  type: list
  elements: str
  returned: success, and not in check mode
"""
