#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: write the report of an acceptance run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: acceptance_files
short_description: Write the report of an acceptance run
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Writes C(acceptance.json) and C(acceptance.html) into a directory, which is made when it is missing. Each file is replaced as a whole.
  - Never reports a change, since a report is written by each run.
options:
  directory:
    description: [The directory.]
    type: path
    required: true
  document:
    description: [The run as data.]
    type: dict
    required: true
  html:
    description: [The page.]
    type: str
    required: true
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
"""

EXAMPLES = r"""
- name: Write the report
  trinode.platform.acceptance_files:
    directory: reports
    document: "{{ report.document }}"
    html: "{{ report.html }}"
  delegate_to: localhost
"""

RETURN = r"""
files:
  description: The files.
  returned: success
  type: list
  elements: str
"""

import json
import os
import tempfile

from ansible.module_utils.basic import AnsibleModule


def write(path: str, text: str) -> None:
    """Replace a file as a whole."""
    descriptor, partial = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "document": {"type": "dict", "required": True},
            "html": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    directory = os.path.abspath(module.params["directory"])
    texts = {"acceptance.json": json.dumps(module.params["document"], indent=1) + "\n", "acceptance.html": module.params["html"]}
    if not module.check_mode:
        try:
            os.makedirs(directory, exist_ok=True)
            for name, text in texts.items():
                write(os.path.join(directory, name), text)
        except OSError as error:
            module.fail_json(msg=f"cannot write the report into {directory}: {error}; set acceptance_report_dir to a directory that you may write to")
    module.exit_json(changed=False, files=[os.path.join(directory, name) for name in texts])


if __name__ == "__main__":
    main()
