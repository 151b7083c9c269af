#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Merge settings into Docker's daemon.json, and take them out again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon_json
short_description: Merge settings into Docker's daemon.json, and take them out again
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Sets the keys of O(settings) in the file and leaves every other key as it is. A setting of an earlier run that is wanted no more gives
    way to the value that was there before it, unless somebody has changed it since.
  - Refuses to touch a file that is not a JSON object or has a key twice, and names the place.
  - Refuses a setting that the command line of dockerd makes too, because dockerd then would not start.
  - Lets dockerd check the new file before it replaces the old one, when the installed dockerd can do that (23.0 and newer).
  - Does not restart the engine; that is what M(trinode.platform.docker_daemon_restart) is for.
options:
  state:
    description:
      - V(present) merges the settings.
      - V(absent) takes out everything that earlier runs set, and removes a file that only they made and the copies that they kept.
    type: str
    choices: [present, absent]
    default: present
  settings:
    description: The settings, nested as in the file. A list replaces the list in the file; a dictionary is merged into it.
    type: dict
    default: {}
  path:
    description: [The file.]
    type: path
    default: /etc/docker/daemon.json
  backups:
    description: [How many earlier versions of the file to keep beside it.]
    type: int
    default: 3
  unit:
    description: [The unit that runs dockerd.]
    type: str
    default: docker.service
  state_file:
    description: [Where it is remembered which settings are ours.]
    type: path
    default: /var/lib/trinode/docker_daemon.json
attributes:
  check_mode:
    description: Can run in check mode and tells what it would change.
    support: full
  diff_mode:
    description: Shows the file before and after.
    support: full
seealso:
  - module: trinode.platform.docker_daemon_restart
"""

EXAMPLES = r"""
- name: Have containers ask the node's Consul agent
  trinode.platform.docker_daemon_json:
    settings:
      dns: [192.168.0.129]
      live-restore: true
"""

RETURN = r"""
engine:
  description: The path of the installed dockerd, empty when there is none.
  type: str
  returned: always
backup:
  description: The copy of the former file, empty when there was nothing to copy.
  type: str
  returned: always
"""

import platform
import shutil
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trinode.platform.plugins.module_utils import _daemon_json, _docker_daemon, _hostfile
from ansible_collections.trinode.platform.plugins.module_utils._daemon_json import DaemonJsonError
from ansible_collections.trinode.platform.plugins.module_utils._hostfile import MISSING, Entry

ENGINE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Do what the arguments say."""
    path: str = module.params["path"]
    state_file: str = module.params["state_file"]
    engine = _docker_daemon.Engine(lambda command: t.cast("tuple[int, str, str]", module.run_command(command)), module.params["unit"])
    dockerd = shutil.which("dockerd", path=ENGINE_PATH) or ""
    result: dict[str, t.Any] = {"changed": False, "engine": dockerd, "backup": ""}

    settings: dict[str, t.Any] = module.params["settings"] if module.params["state"] == "present" else {}
    if "dns" in settings:
        _daemon_json.check_dns(settings["dns"])
    try:
        present = _hostfile.read(path)
        if present.link is not None:
            raise DaemonJsonError(f"{path} is a link to {present.link}; replace it by the file itself")
        (present.text or "").encode("utf-8")
    except UnicodeEncodeError as exc:
        raise DaemonJsonError(f"{path} is not UTF-8 text, at {_daemon_json.place(exc.object, exc.start)}\nRepair the file; it was not changed") from exc
    content = _daemon_json.parse(present.text or "", path)
    state = _docker_daemon.load_state(state_file)
    merged, owned = _daemon_json.merge(content, settings, state.owned)

    shown = engine.show()
    if settings:
        flags, where = engine.flags(shown)
        _daemon_json.check_conflicts(merged, flags, path, where)

    wanted = present if merged == content else Entry(text=_daemon_json.render(merged), mode=present.mode)
    made_here = state.original is not None and state.original.text is None
    if module.params["state"] == "absent" and not merged and made_here:
        wanted = MISSING
    result["changed"] = wanted[:2] != present[:2]
    result["diff"] = {"before_header": path, "after_header": path, "before": present.shown(), "after": wanted.shown()}
    if module.check_mode:
        return result

    if result["changed"]:
        if dockerd and wanted.text is not None:
            check_with(module, dockerd, wanted)
        # What the engine runs with now is what it goes back to, should it not start with the new file.
        if state.good is None or engine.runs_with(shown, path):
            state = state._replace(good=present, good_owned=state.owned)
        state = state._replace(original=state.original if state.original is not None else present)
    if module.params["state"] == "absent":
        _docker_daemon.back_up(path, MISSING, 0, time.time())
        _hostfile.write(f"{path}.refused", MISSING)
        # The knowledge of the file that ran stays until the restart has succeeded.
        if result["changed"]:
            _docker_daemon.save_state(state_file, state._replace(owned=[]))
        else:
            _hostfile.write(state_file, MISSING)
    elif result["changed"] or owned != state.owned:
        result["backup"] = _docker_daemon.back_up(path, present, module.params["backups"], time.time()) or "" if result["changed"] else ""
        _docker_daemon.save_state(state_file, state._replace(owned=owned))
    if result["changed"]:
        _hostfile.write(path, wanted)
    return result


def check_with(module: AnsibleModule, dockerd: str, wanted: Entry) -> None:
    """Let dockerd judge the file, when it knows how to."""
    if "--validate" not in module.run_command([dockerd, "--help"])[1]:
        return
    candidate = f"{module.tmpdir}/daemon.json"
    _hostfile.write(candidate, wanted)
    rc, stdout, stderr = module.run_command([dockerd, "--validate", f"--config-file={candidate}"])
    if rc != 0:
        raise DaemonJsonError(
            f"dockerd refuses the new {module.params['path']}: {(stderr or stdout).strip()}\nCorrect the settings (docker_daemon_dns_daemon_options"
            " or the file's own); nothing was changed"
        )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "settings": {"type": "dict", "default": {}},
            "path": {"type": "path", "default": "/etc/docker/daemon.json"},
            "backups": {"type": "int", "default": 3},
            "unit": {"type": "str", "default": "docker.service"},
            "state_file": {"type": "path", "default": "/var/lib/trinode/docker_daemon.json"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (DaemonJsonError, OSError) as exc:
        module.fail_json(msg=f"Host {platform.node()}: {exc}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
