#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads certificates on a node. The action of this name decides whether they end soon."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_expiry_info
short_description: Find certificates of a host that end soon
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Reads the certificates of a host and reports those that end within some days. A file may hold private keys as well;
    they stay on the host.
  - Changes nothing, and does not fail because a certificate ends. What to do then is the caller's matter.
options:
  files:
    description: Files that must be there.
    type: list
    elements: path
    default: []
  patterns:
    description: Patterns of files that may be there.
    type: list
    elements: str
    default: []
  days:
    description: How many days a certificate must still be valid.
    type: int
    default: 30
attributes:
  action:
    description: Runs partly on the control node.
    support: full
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Find certificates that end soon
  trinode.platform.certificate_expiry_info:
    patterns: [/etc/nginx-edge/tls/*.pem]
"""

RETURN = r"""
days:
  description: The days that are left, by file.
  type: dict
  returned: success
ending:
  description: What ends too soon or cannot be read, one text for each file.
  type: list
  elements: str
  returned: success
"""

import glob
import re

from ansible.module_utils.basic import AnsibleModule

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "path", "default": []},
            "patterns": {"type": "list", "elements": "str", "default": []},
            "days": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    paths = [*module.params["files"], *(path for pattern in module.params["patterns"] for path in glob.glob(pattern))]
    certificates, unreadable = {}, []
    for path in sorted(set(paths)):
        try:
            with open(path, encoding="ascii", errors="replace") as source:
                certificates[path] = CERTIFICATE.findall(source.read())
        except OSError as error:
            unreadable.append(f"{path} cannot be read: {error.strerror}")
    module.exit_json(changed=False, certificates=certificates, unreadable=unreadable)


if __name__ == "__main__":
    main()
