#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remember which packages a role brought to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: packages_memory
short_description: Remember which packages a role brought to a host
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Writes down what M(ansible.builtin.apt) installed for a role, its dependencies included, so that an uninstallation takes away these packages and no others.
  - With O(state=absent) it forgets them, and returns what they were.
options:
  owner:
    description: [The name of the role.]
    type: str
    required: true
  state:
    description: V(present) adds what O(apt_output) says, V(absent) forgets everything of the owner.
    type: str
    choices: [present, absent]
    default: present
  apt_output:
    description: [The C(stdout) that M(ansible.builtin.apt) returned.]
    type: str
    default: ""
  path:
    description: [The file in which all of it is remembered.]
    type: path
    default: /var/lib/trinode/packages.json
attributes:
  check_mode:
    description: Can run in check mode and tells what it would change.
    support: full
  diff_mode:
    description: Shows the file before and after.
    support: full
seealso:
  - module: ansible.builtin.apt
"""

EXAMPLES = r"""
- name: Remember what was installed
  trinode.platform.packages_memory:
    owner: nginx
    apt_output: "{{ installed.stdout | default('') }}"
"""

RETURN = r"""
packages:
  description: The packages of this owner, with O(state=absent) those that were forgotten.
  type: list
  elements: str
  returned: success
"""

import json
import platform

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host import hostfile
from ..module_utils._host.packages import PackagesError, forgotten, installed_by, load, remembered


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "owner": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "apt_output": {"type": "str", "default": ""},
            "path": {"type": "path", "default": "/var/lib/trinode/packages.json"},
        },
        supports_check_mode=True,
    )
    path, owner = module.params["path"], module.params["owner"]
    before = hostfile.read(path)
    try:
        known = load(before.text, path)
        new = remembered(known, owner, installed_by(module.params["apt_output"])) if module.params["state"] == "present" else forgotten(known, owner)
        packages = (new if module.params["state"] == "present" else known).get(owner, [])
        wanted = {key: names for key, names in new.items() if names}
        after = hostfile.Entry(text=json.dumps(wanted, indent=2, sort_keys=True) + "\n") if wanted else hostfile.MISSING
        changed = not hostfile.same(path, after)
        if changed and not module.check_mode:
            hostfile.write(path, after)
    except (PackagesError, OSError) as error:
        module.fail_json(msg=f"Host {platform.node()}: {error}.")
    module.exit_json(changed=changed, packages=packages, diff={"before": before.shown(), "after": after.shown(), "before_header": path, "after_header": path})


if __name__ == "__main__":
    main()
