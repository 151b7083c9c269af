#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives a host a package source out of one archive."""

from __future__ import annotations

DOCUMENTATION = r"""
module: package_source
short_description: Give a host a package source out of one archive
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Pushes an archive of packages that C(make bundle) made, unpacks it into a directory of its own, and makes it a source of apt that is preferred to others.
  - The lists of this source alone are read. Other sources are not asked, because they may be out of reach, and are left as they are.
  - What earlier archives left is removed at the end.
options:
  archive:
    description: [The archive on the control node. Its checksum lies beside it. Required with O(state=present).]
    type: path
  state:
    description: V(absent) removes the source and everything that came with it.
    type: str
    choices: [present, absent]
    default: present
  directory:
    description: [The directory on the host. It holds nothing else.]
    type: path
    default: /var/lib/trinode/packages
  source_file:
    description: [The file that names the source.]
    type: path
    default: /etc/apt/sources.list.d/trinode-packages.list
  preferences_file:
    description: [The file that prefers it.]
    type: path
    default: /etc/apt/preferences.d/trinode-packages
  priority:
    description:
      - How much it is preferred, in the numbers of apt_preferences(5). From 990 to 999 it wins over all sources without making an installed package older.
    type: int
    default: 995
  lists:
    description: [Where apt keeps its lists.]
    type: path
    default: /var/lib/apt/lists
  pushed:
    description: [The archive on the host. The action sets it when it has pushed the archive; leave it out.]
    type: path
  checksum:
    description: [The SHA-256 of the archive. The action sets it; leave it out.]
    type: str
attributes:
  action:
    description: Runs partly on the control node.
    support: full
  check_mode:
    description: Says what would change without changing it, on a bare host too.
    support: full
  diff_mode:
    description: Shows the source and the preferences before and after.
    support: full
  platform:
    description: Systems on which the module works.
    support: full
    platforms: debian
"""

EXAMPLES = r"""
- name: Bring the packages of the bundle
  trinode.platform.package_source:
    archive: /srv/bundle/artifacts/packages/bookworm_amd64.tar
"""

RETURN = r"""
path:
  description: The directory that is the source.
  type: str
  returned: when there is one
  sample: /var/lib/trinode/packages/0123456789abcdef
reasons:
  description: What was changed, or would be.
  type: list
  elements: str
  returned: success
removed:
  description: What earlier archives had left.
  type: list
  elements: str
  returned: success
"""

import os
import shutil
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host import artifact, hostfile, package_source
from ..module_utils._host.package_source import SourceError

HEADER = "# Written by Ansible (trinode.platform.package_source): the packages that came with the bundle.\n"


def remove(path: str) -> None:
    """A file, a link or a tree."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def files_of(module: AnsibleModule, place: str) -> dict[str, hostfile.Entry]:
    """The two files as they have to be."""
    p = module.params
    if p["state"] == "absent":
        return {p["source_file"]: hostfile.MISSING, p["preferences_file"]: hostfile.MISSING}
    return {
        p["source_file"]: hostfile.Entry(text=package_source.source_text(HEADER, place)),
        p["preferences_file"]: hostfile.Entry(text=package_source.preferences_text(HEADER, p["priority"])),
    }


def update(module: AnsibleModule) -> None:
    """Read the lists of this source."""
    status, out, err = module.run_command(package_source.update_command(module.params["source_file"]), environ_update={"LC_ALL": "C.UTF-8"})
    if status != 0:
        raise SourceError(f"apt-get cannot read {module.params['source_file']} ({(err or out).strip()}); remove {module.params['directory']} and run again")


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Compare and, outside of check mode, change."""
    p = module.params
    present = p["state"] == "present"
    kept = package_source.identity(p["checksum"]) if present else ""
    place = os.path.join(p["directory"], kept)
    unpacked = present and os.path.exists(os.path.join(place, package_source.RELEASE))
    result: dict[str, t.Any] = {"changed": False, "path": place, "reasons": [], "removed": []} if present else {"changed": False, "reasons": [], "removed": []}
    if present and not unpacked and not p["pushed"]:
        # The action pushes the archive and calls again.
        return {**result, "needs_archive": True}
    reasons: list[str] = result["reasons"]
    if present and not unpacked:
        reasons.append(f"{place} does not exist")
        if not module.check_mode:
            found = artifact.file_sha256(p["pushed"])
            if found != p["checksum"]:
                raise SourceError(f"the archive arrived with the checksum {found} instead of {p['checksum']}; nothing was changed, so run again")
            package_source.unpack(p["pushed"], place)
    diff = []
    for path, wanted in files_of(module, place).items():
        before = hostfile.read(path)
        if hostfile.same(path, wanted):
            continue
        reasons.append(f"{path} is not as it should be")
        diff.append({"before": before.shown(), "after": wanted.shown(), "before_header": path, "after_header": path})
        if not module.check_mode:
            hostfile.write(path, wanted)
    if present and (reasons or not package_source.lists_of(p["lists"], place)):
        reasons.append("the lists of this source are read")
        if not module.check_mode:
            update(module)
    # Not before the source names the new directory.
    current = package_source.lists_of(p["lists"], place) if present else []
    old_lists = [path for path in package_source.lists_of(p["lists"], p["directory"]) if path not in current]
    old = package_source.others(p["directory"], kept)
    if not present and os.path.isdir(p["directory"]):
        old = [p["directory"]]
    result["removed"] = [*old, *old_lists]
    if not module.check_mode:
        for path in result["removed"]:
            remove(path)
    return {**result, "changed": bool(reasons or result["removed"]), "diff": diff}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "directory": {"type": "path", "default": package_source.DEFAULT_DIRECTORY},
            "source_file": {"type": "path", "default": "/etc/apt/sources.list.d/trinode-packages.list"},
            "preferences_file": {"type": "path", "default": "/etc/apt/preferences.d/trinode-packages"},
            "priority": {"type": "int", "default": 995},
            "lists": {"type": "path", "default": "/var/lib/apt/lists"},
            "pushed": {"type": "path"},
            "checksum": {"type": "str"},
        },
        required_if=[("state", "present", ("archive", "checksum"))],
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except SourceError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or module.params['directory']} cannot be written or read ({error.strerror}); correct this and run again")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
