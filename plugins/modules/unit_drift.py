#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare a running systemd service with the files it was started from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_drift
short_description: Compare a running systemd service with the files it was started from
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Reports a change when a service has to be (re)started to be what its files say, and changes nothing itself.
  - Meant to notify the handler that restarts the service. Because it compares states, a notification that an earlier, interrupted
    run lost is found again by the next run.
  - A service drifted when its unit is not loaded, not enabled or not running, when systemd has not read the present unit file, when
    one of O(files), the unit file or a drop-in is newer than the running process, or when the process runs another program than O(executable).
options:
  name:
    description: The unit, with or without its C(.service) suffix.
    type: str
    required: true
  files:
    description:
      - Files that the service reads only when it starts. One that does not exist is ignored.
    type: list
    elements: path
    default: []
  executable:
    description:
      - The program that the service runs. Links are resolved, so a moved version link counts as drift.
    type: path
  reread_files:
    description:
      - Files that the service reads again when it is reloaded. Those that changed since are returned in RV(to_reread), and are no drift.
    type: list
    elements: path
    default: []
  reloads:
    description:
      - Whether the service reads O(files) again when it is reloaded. The time of its last reload then counts instead of its start.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and tells what it would report.
    support: full
  diff_mode:
    description: Shows the reasons as a difference.
    support: full
seealso:
  - module: ansible.builtin.systemd_service
"""

EXAMPLES = r"""
- name: Compare the running agent with its files
  trinode.platform.unit_drift:
    name: consul.service
    files: [/etc/consul.d/consul.json]
    executable: /usr/local/bin/consul
  notify: consul_server | restart
"""

RETURN = r"""
reasons:
  description: One sentence for each difference; empty when the service runs what is on the disk.
  type: list
  elements: str
  returned: always
to_reread:
  description: Those of O(reread_files) that the running service has not read.
  type: list
  elements: str
  returned: always
running:
  description: Whether the service is running.
  type: bool
  returned: always
main_pid:
  description: The process id of the service, V(0) when it is not running.
  type: int
  returned: always
"""

import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.unit_drift import (
    PROPERTIES,
    FileAge,
    UnitState,
    newer,
    parse_properties,
    process_age,
    reasons,
)


def file_age(path: str) -> FileAge:
    """Seconds since the last change of a file."""
    try:
        return FileAge(path, time.time() - os.stat(path).st_mtime)
    except OSError:
        return FileAge(path, None)


def read(path: str) -> str:
    """The text of a file under /proc."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def unit_state(properties: dict[str, str], reloads: bool) -> UnitState:
    """Join what systemd says with what the kernel says of the main process."""
    pid = int(properties.get("MainPID") or 0)
    if not pid:
        return UnitState(properties, None, None)
    try:
        loaded = process_age(read(f"/proc/{pid}/stat"), read("/proc/uptime"), os.sysconf("SC_CLK_TCK"))
        executable = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        # It ended between the two looks.
        return UnitState(properties, None, None)
    changed = int(properties.get("StateChangeTimestampMonotonic") or 0)
    if reloads and changed:
        loaded = min(loaded, time.clock_gettime(time.CLOCK_MONOTONIC) - changed / 1e6)
    return UnitState(properties, loaded, executable)


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
            "executable": {"type": "path"},
            "reread_files": {"type": "list", "elements": "path", "default": []},
            "reloads": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params: dict[str, t.Any] = module.params
    rc, stdout, stderr = module.run_command(["systemctl", "show", "--property", ",".join(PROPERTIES), "--", params["name"]])
    if rc != 0:
        module.fail_json(msg=f"systemd does not answer about {params['name']}: {(stderr or stdout).strip()}. This collection needs hosts that systemd runs.")
    properties = parse_properties(stdout)
    unit_files = [properties.get("FragmentPath", ""), *properties.get("DropInPaths", "").split()]
    state = unit_state(properties, params["reloads"])
    files = [file_age(path) for path in params["files"]]
    # A reload does not apply the unit file itself; only a start does.
    start = unit_state(properties, reloads=False)
    executable = os.path.realpath(params["executable"]) if params["executable"] else None
    found = reasons(state, files, executable)
    found += [reason for reason in reasons(start, [file_age(path) for path in unit_files if path], None) if reason not in found]
    module.exit_json(
        changed=bool(found),
        reasons=found,
        to_reread=newer(unit_state(properties, reloads=True), [file_age(path) for path in params["reread_files"]]),
        running=state.loaded_seconds is not None,
        main_pid=int(properties.get("MainPID") or 0),
        diff={
            "before_header": f"{params['name']} (running)",
            "after_header": f"{params['name']} (on disk)",
            "before": "".join(f"{reason}\n" for reason in found),
            "after": "",
        },
    )


if __name__ == "__main__":
    main()
