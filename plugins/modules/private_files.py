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
  - What an earlier run that was killed left of a file under another name is removed, as soon as it is ten minutes old.
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
    default: []
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
    default: {}
  purge:
    description: Directories below which nothing stays but O(directories) and O(files).
    type: list
    elements: path
    default: []
  remove:
    description: Files and whole directories that must not be there, such as a secret that nobody reads any more.
    type: list
    elements: path
    default: []
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

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host import placement


def put_file(module: AnsibleModule, place: placement.Place, *, force: bool) -> bool:
    """Whether a file had to be written, removed or put right."""
    content = module.params["contents"].get(place.path) or ""
    if not force:
        before = placement.text_at(place.path)
        content = content if before is None else before
    if not content:
        return placement.remove(place.path, check=module.check_mode)
    return placement.put_file(place, content, check=module.check_mode)


def bring(module: AnsibleModule) -> dict[str, t.Any]:
    """Do it all; gives the result of the module."""
    check, params = module.check_mode, module.params
    directories = [placement.Place.of(entry) for entry in params["directories"]]
    files = [(placement.Place.of(entry), entry["force"]) for entry in params["files"]]
    paths = {place.path for place, _ in files}
    unknown = sorted(set(params["contents"]) - paths)
    if unknown:
        raise placement.PlacementError(f"contents has {', '.join(unknown)}, which is none of the files; correct its path")
    open_ones = [place.path for place, _ in files if place.mode & 0o007]
    if open_ones:
        raise placement.PlacementError(f"everybody could read {', '.join(open_ones)}; give it a mode that ends in 0")
    written = [place.path for place in directories if placement.put_directory(place, check=check)]
    written += [place.path for place, force in files if put_file(module, place, force=force)]
    surplus = placement.surplus(params["purge"], paths | {place.path for place in directories})
    abandoned = [left for path in sorted(paths) for left in placement.leftovers(path) if left not in surplus]
    unwanted = [*surplus, *abandoned, *params["remove"]]
    written += [path for path in unwanted if placement.remove(path, check=check)]
    return {"changed": bool(written), "written": written, "diff": {"before": "", "after": "".join(f"{path}\n" for path in written)}}


def main() -> None:
    """Entry point of the module."""
    arguments = {
        "directories": placement.entries("0750"),
        "files": placement.entries("0640", force={"type": "bool", "default": True}),
        "contents": {"type": "dict", "default": {}, "no_log": True},
    }
    placement.run(arguments, bring)


if __name__ == "__main__":
    main()
