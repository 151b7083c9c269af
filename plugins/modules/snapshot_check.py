#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_check
short_description: Check a snapshot of Consul on the control node
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Reads a snapshot of Consul on the control node, decrypted with the vault password when it is encrypted, and compares
    its checksums.
  - Works on the control node, whatever host the task is for. Nothing decrypted is written to the disk.
options:
  file:
    description: The snapshot.
    type: path
    required: true
  program:
    description: The program of the role C(consul_backup), on the control node.
    type: path
    required: true
attributes:
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
seealso:
  - module: trinode.platform.snapshot_copy
"""

EXAMPLES = r"""
- name: Require a whole snapshot
  trinode.platform.snapshot_check:
    file: /home/ops/backups/consul-20260101T120000Z-4711.snap
    program: "{{ role_path }}/files/consul_backup.py"
"""

RETURN = r"""
msg:
  description: The description of the snapshot.
  type: str
  returned: always
"""
