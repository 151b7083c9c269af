#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart the Docker engine, wait until it answers, and go back when it does not."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon_restart
short_description: Restart the Docker engine, wait until it answers, and go back when it does not
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Restarts and enables the engine's unit and waits until the engine's API answers.
  - Containers that C(live-restore) keeps running so far outlive the restart, also the one that takes this setting away.
  - When it does not and the engine's F(/etc/docker/daemon.json) is not the one it last ran with, that one is put back, the engine is started
    with it, and the module fails with the reason. The refused file stays beside it with the suffix C(.refused).
options:
  path:
    description: ["The configuration that the engine reads when it starts, as M(trinode.platform.docker_daemon_json) returns it."]
    type: path
    default: /etc/docker/daemon.json
  unit:
    description: [The unit that runs dockerd.]
    type: str
    default: docker.service
  socket:
    description: [The socket at which the engine answers.]
    type: path
    default: /run/docker.sock
  timeout:
    description: [Seconds after which an engine that does not answer has failed.]
    type: int
    default: 60
  state_file:
    description: [Where the configuration of the last good start is remembered.]
    type: path
    default: /var/lib/trinode/docker_daemon.json
attributes:
  check_mode:
    description: Can run in check mode and tells that it would restart.
    support: full
  diff_mode:
    description: A restart has no text to compare.
    support: none
seealso:
  - module: trinode.platform.docker_daemon_json
  - module: trinode.platform.unit_drift
"""

EXAMPLES = r"""
- name: Restart Docker, one host at a time
  trinode.platform.docker_daemon_restart:
  throttle: 1
"""

RETURN = r"""
seconds:
  description: How long the engine needed until it answered.
  type: float
  returned: success
journal:
  description: What the engine wrote when it did not start.
  type: list
  elements: str
  returned: failure
"""

import os
import platform
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._docker import daemon, daemon_json
from ..module_utils._docker.daemon import Engine
from ..module_utils._docker.daemon_json import DaemonJsonError
from ..module_utils._host import hostfile
from ..module_utils._host.hostfile import MISSING, Entry


def start(engine: Engine, path: str, present: Entry, timeout: int) -> str | None:
    """Restart the engine; why it does not come back, or None. Containers that outlived a restart so far outlive the one that ends this, too."""
    content = daemon_json.parse(present.text or "", path)
    try:
        info = engine.info(engine.show())
    except DaemonJsonError:
        # One that runs and does not answer is what a restart is for.
        info = {}
    if content.get("live-restore") or not info.get("LiveRestoreEnabled") or not info.get("ContainersRunning"):
        return engine.start(timeout)
    times = _times(path)
    try:
        hostfile.write(path, Entry(text=daemon_json.render({**content, "live-restore": True}), mode=present.mode))
        error = engine.start(timeout)
        if error is None:
            # A reload leaves a setting alone that the file does not have.
            hostfile.write(path, Entry(text=daemon_json.render({**content, "live-restore": False}), mode=present.mode))
            error = engine.take_live_restore(False, timeout)
    finally:
        hostfile.write(path, present)
        if times is not None:
            # The engine has read it: a later comparison must not find it newer than the process.
            os.utime(path, ns=times)
    return error


def _times(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_atime_ns, status.st_mtime_ns


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Restart, and go back when that fails."""
    path: str = module.params["path"]
    state_file: str = module.params["state_file"]
    timeout: int = module.params["timeout"]
    state = daemon.state_of(state_file, path)
    if module.check_mode:
        return {"changed": True, "seconds": 0.0}
    engine = Engine(lambda command: t.cast("tuple[int, str, str]", module.run_command(command)), module.params["unit"], module.params["socket"])
    present = hostfile.read(path)
    since = time.time()
    error = start(engine, path, present, timeout)
    if error is None:
        if state.original is not None and not state.owned:
            # Our last setting was taken out, and the engine runs without it.
            hostfile.write(state_file, MISSING)
        elif state.owned and (state.good, state.good_owned) != (present, state.owned):
            daemon.save_state(state_file, state._replace(good=present, good_owned=state.owned))
        return {"changed": True, "seconds": round(time.time() - since, 2)}

    journal = engine.journal(since)
    message = f"Docker did not come back after its restart: {error}; {daemon.reason_in(journal)}"
    if state.good is None or state.good[:2] == present[:2]:
        return {"failed": True, "msg": f"{message}. {path} is the one it ran with before, so look at 'journalctl -u {engine.unit}'", "journal": journal}
    hostfile.write(f"{path}.refused", present)
    hostfile.write(path, state.good)
    daemon.save_state(state_file, state._replace(owned=state.good_owned))
    engine.stop()
    again = engine.start(timeout)
    outcome = "Docker runs again with the former file" if again is None else f"with the former file Docker does not come back either: {again}"
    text = (
        f"{message}. The former {path} is back in place and {outcome}."
        f" The refused one is {path}.refused; correct docker_daemon_dns_daemon_options or the settings it names"
    )
    return {"failed": True, "msg": text, "journal": journal}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/docker/daemon.json"},
            "unit": {"type": "str", "default": "docker.service"},
            "socket": {"type": "path", "default": "/run/docker.sock"},
            "timeout": {"type": "int", "default": 60},
            "state_file": {"type": "path", "default": "/var/lib/trinode/docker_daemon.json"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (DaemonJsonError, OSError) as exc:
        module.fail_json(msg=f"Host {platform.node()}: {exc}.")
    if result.get("failed"):
        module.fail_json(msg=f"Host {platform.node()}: {result['msg']}.", journal=result["journal"])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
