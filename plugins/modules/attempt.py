# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: attempt
short_description: Run a module, and return why it could not be run
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Runs a module. When it fails, when the host cannot be reached, or when sudo asks for a password, the task is skipped and the result holds the reason.
  - For checks that end in one report. Otherwise Ansible prints each failure at once, and takes the host out of the play.
options:
  module:
    description: The full name of the module.
    type: str
    required: true
  arguments:
    description: The arguments of the module.
    type: dict
    default: {}
attributes:
  check_mode:
    description: The same as that of the module.
    support: full
  diff_mode:
    description: The same as that of the module.
    support: full
"""

EXAMPLES = r"""
- name: Read the state of the host
  trinode.platform.attempt:
    module: trinode.platform.node_info
    arguments:
      nodes: []
      ports: []
  register: state
"""

RETURN = r"""
skipped:
  description: Whether the module failed or could not be run. The other keys are those of the module.
  type: bool
  returned: on failure
unreached:
  description: Whether there was no connection to the host.
  type: bool
  returned: without a connection
msg:
  description: Why the module failed.
  type: str
  returned: on failure
"""
