#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write files that only their reader can read."""

from __future__ import annotations

DOCUMENTATION = r"""
module: private_files
short_description: Write files that only their reader can read
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Writes secrets, each as one whole, in one call. Nobody but the owner and the group of a file can read it at any time.
  - Never tells a content, neither in its result nor as a difference.
options:
  directories:
    description: Directories that have to be there first, outer ones before inner ones.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: [The directory.]
        type: path
        required: true
      owner:
        description: [Its owner.]
        type: str
        default: root
      group:
        description: [Its group.]
        type: str
        default: root
      mode:
        description: Its mode, four octal digits.
        type: str
        default: "0750"
  files:
    description: [The files.]
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: [The file. Its directory must be there.]
        type: path
        required: true
      owner:
        description: [Its owner.]
        type: str
        default: root
      group:
        description: [Its group.]
        type: str
        default: root
      mode:
        description: Its mode, four octal digits. Everybody else must have no right.
        type: str
        default: "0640"
      force:
        description: Whether a file that is there gets this content. With V(false), only one that is missing is written.
        type: bool
        default: true
  contents:
    description:
      - What is in the files, by their paths. A file without any content is removed.
      - Beside O(files) and not in it, because Ansible hides a secret of several lines in a log only when it is an argument of its own.
    type: dict
    required: true
attributes:
  check_mode:
    description: Can run in check mode and tells what it would change. An owner or a group that does not exist yet is no error then.
    support: full
  diff_mode:
    description: Names the files that change, and never what is in them.
    support: full
"""

EXAMPLES = r"""
- name: Write the token
  trinode.platform.private_files:
    files:
      - path: /etc/consul-template.d/consul.token
        group: consul-template
    contents:
      /etc/consul-template.d/consul.token: "{{ token }}"
"""

RETURN = r"""
written:
  description: The files and directories that were written, removed or put right.
  type: list
  elements: str
  returned: success
"""

import grp
import os
import pwd
import stat
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trinode.platform.plugins.module_utils import _hostfile


def ids(module: AnsibleModule, entry: dict[str, t.Any]) -> tuple[int, int] | None:
    """User and group of an entry; None when one of them does not exist yet in check mode."""
    try:
        return pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid
    except KeyError:
        if module.check_mode:
            return None
        module.fail_json(msg=f"{entry['path']} is for the user {entry['owner']} and the group {entry['group']}, and there is none; create them first")
        raise


def as_wanted(path: str, wanted: tuple[int, int] | None, mode: int, kind: t.Callable[[int], bool]) -> bool:
    """Whether owner, group, mode and kind are right."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return kind(found.st_mode) and stat.S_IMODE(found.st_mode) == mode and (found.st_uid, found.st_gid) == wanted


def content_of(path: str) -> str | None:
    """The text of a file, None when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as source:
            return source.read()
    except FileNotFoundError:
        return None


def put_directory(module: AnsibleModule, entry: dict[str, t.Any]) -> bool:
    """Whether a directory had to be made or put right."""
    path, mode, wanted = entry["path"], int(entry["mode"], 8), ids(module, entry)
    if as_wanted(path, wanted, mode, stat.S_ISDIR):
        return False
    if not module.check_mode and wanted:
        os.makedirs(path, mode=0o700, exist_ok=True)
        os.chown(path, *wanted)
        os.chmod(path, mode)
    return True


def put_file(module: AnsibleModule, entry: dict[str, t.Any]) -> bool:
    """Whether a file had to be written, removed or put right."""
    path, mode, wanted = entry["path"], int(entry["mode"], 8), ids(module, entry)
    before = content_of(path)
    content = (module.params["contents"].get(path) or "") if entry["force"] or before is None else before
    if not content:
        if before is not None and not module.check_mode:
            os.unlink(path)
        return before is not None
    if before == content and as_wanted(path, wanted, mode, stat.S_ISREG):
        return False
    if not module.check_mode and wanted:
        # A directory that nobody described would be made for everybody to look into.
        os.stat(os.path.dirname(path))
        _hostfile.write(path, _hostfile.Entry(text=content, mode=mode), wanted)
    return True


def main() -> None:
    """Entry point of the module."""
    owned = {
        "path": {"type": "path", "required": True},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
    }
    module = AnsibleModule(
        argument_spec={
            "directories": {"type": "list", "elements": "dict", "default": [], "options": {**owned, "mode": {"type": "str", "default": "0750"}}},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    **owned,
                    "mode": {"type": "str", "default": "0640"},
                    "force": {"type": "bool", "default": True},
                },
            },
            "contents": {"type": "dict", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    unknown = sorted(set(module.params["contents"]) - {entry["path"] for entry in module.params["files"]})
    if unknown:
        module.fail_json(msg=f"contents has {', '.join(unknown)}, which is none of the files; correct its path")
    open_ones = [entry["path"] for entry in module.params["files"] if int(entry["mode"], 8) & 0o007]
    if open_ones:
        module.fail_json(msg=f"everybody could read {', '.join(open_ones)}; give it a mode that ends in 0")
    written = [entry["path"] for entry in module.params["directories"] if put_directory(module, entry)]
    try:
        written += [entry["path"] for entry in module.params["files"] if put_file(module, entry)]
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}; create its directory first, and see that the disk is not full")
    module.exit_json(changed=bool(written), written=written, diff={"before": "", "after": "".join(f"{path}\n" for path in written)})


if __name__ == "__main__":
    main()
