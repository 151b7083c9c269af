#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring many directories and files to what is given, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Bring directories and files to what is given, in one call
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Makes directories, writes files with their contents, and removes what should not be there, in this order.
  - What M(ansible.builtin.file), M(ansible.builtin.template) and M(ansible.builtin.copy) do with two calls for each file, this does with one for all of a role.
  - Each file is written as one whole. For secrets use M(trinode.platform.private_files).
options:
  directories:
    description: The directories, outer ones before inner ones.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The directory.
        type: path
        required: true
      owner:
        description: Its owner.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, four octal digits.
        type: str
        default: "0755"
  files:
    description: The files, written in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file. Its directory must be there.
        type: path
        required: true
      content:
        description: What is in it.
        type: str
        required: true
      owner:
        description: Its owner.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, four octal digits.
        type: str
        default: "0644"
      validate:
        description:
          - A command that must accept the content before it is written. V(%s) stands for a file that has it and that only root can read.
          - It does not run when the content is there already, nor in check mode while its program is missing.
        type: str
  purge:
    description: Directories below which nothing stays but O(directories) and O(files).
    type: list
    elements: path
    default: []
  remove:
    description: Files and whole directories that must not be there.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    description: Can run in check mode and tells what it would change. An owner or a group that does not exist yet is no error then.
    support: full
  diff_mode:
    description: Shows each file before and after.
    support: full
"""

EXAMPLES = r"""
- name: Write configuration and unit
  trinode.platform.files:
    directories:
      - path: /etc/consul-backup
    files:
      - path: /etc/consul-backup/config.json
        content: "{{ config | to_nice_json }}\n"
        validate: /usr/local/sbin/consul-backup --config %s check
      - path: /etc/systemd/system/consul-backup.service
        content: "{{ lookup('ansible.builtin.template', 'consul-backup.service.j2') }}"
"""

RETURN = r"""
written:
  description: The files and directories that were written or put right.
  type: list
  elements: str
  returned: success
removed:
  description: What was removed.
  type: list
  elements: str
  returned: success
"""

import os
import shlex
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host import placement


def validate(module: AnsibleModule, path: str, content: str, command: str) -> None:
    """End the module when the command refuses the content."""
    words = shlex.split(command)
    if not any("%s" in word for word in words):
        module.fail_json(msg=f'{path}: the command that validates it is "{command}", and lacks the %s for the file')
    if module.check_mode and not os.access(words[0], os.X_OK):
        return
    with tempfile.NamedTemporaryFile("w", dir=module.tmpdir, prefix="validate-", suffix=os.path.basename(path), encoding="utf-8") as candidate:
        candidate.write(content)
        candidate.flush()
        status, out, err = module.run_command([word.replace("%s", candidate.name) for word in words])
    if status:
        said = (err.strip() or out.strip() or f"it ended with status {status}").replace(candidate.name, path)
        module.fail_json(msg=f"{path} was left as it is, because what should be in it is not accepted by '{command.replace('%s', path)}': {said}", rc=status)


def bring(module: AnsibleModule) -> dict[str, t.Any]:
    """Do it all; gives the result of the module."""
    check, params = module.check_mode, module.params
    directories = [placement.Place.of(entry) for entry in params["directories"]]
    files = [(placement.Place.of(entry), entry) for entry in params["files"]]
    written = [place.path for place in directories if placement.put_directory(place, check=check)]
    diffs = []
    for place, entry in files:
        # Most runs end here, after one look at the file.
        if not placement.put_file(place, entry["content"], check=True):
            continue
        before = placement.text_at(place.path)
        if entry["validate"] and before != entry["content"]:
            validate(module, place.path, entry["content"], entry["validate"])
        placement.put_file(place, entry["content"], check=check)
        written.append(place.path)
        diffs.append({"before_header": place.path, "after_header": place.path, "before": before or "", "after": entry["content"]})
    wanted = {place.path for place in directories} | {place.path for place, _ in files}
    unwanted = [*placement.surplus(params["purge"], wanted), *params["remove"]]
    removed = [path for path in unwanted if placement.remove(path, check=check)]
    diffs += [{"before_header": path, "before": "there\n", "after": ""} for path in removed]
    return {"changed": bool(written or removed), "written": written, "removed": removed, "diff": diffs}


def main() -> None:
    """Entry point of the module."""
    text = {"content": {"type": "str", "required": True}, "validate": {"type": "str"}}
    placement.run({"directories": placement.entries("0755"), "files": placement.entries("0644", **text)}, bring)


if __name__ == "__main__":
    main()
