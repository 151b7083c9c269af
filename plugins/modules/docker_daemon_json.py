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
  - Refuses a host whose containers run in an engine that reads other settings, rootless or from a snap, while the unit does not run.
  - Leaves C(live-restore) out, with a warning, on the member of a swarm, because dockerd then would not start.
  - Where C(live-restore) is new to a running engine, it lets the engine read its file again. The restart that follows then stops no container.
    When the engine does not take the setting, the former file is put back, and the module fails.
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
    description:
      - The settings, nested as in the file. A list replaces the list in the file; a dictionary is merged into it.
      - The text V(true) or V(false) counts as a truth value for keys that take nothing else, such as C(live-restore).
    type: dict
    default: {}
  path:
    description:
      - The file. When it is left out, the one that dockerd reads by its C(--config-file), or F(/etc/docker/daemon.json).
      - Any other than the one that dockerd reads is refused.
    type: path
  backups:
    description: [How many earlier versions of the file to keep beside it.]
    type: int
    default: 3
  unit:
    description: [The unit that runs dockerd.]
    type: str
    default: docker.service
  socket:
    description: [The socket at which the engine answers.]
    type: path
    default: /run/docker.sock
  timeout:
    description: [Seconds within which a running engine has to take C(live-restore) from its file.]
    type: int
    default: 10
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
path:
  description: The file that dockerd reads.
  type: str
  returned: always
reloaded:
  description: Whether a running engine took C(live-restore) from the file.
  type: bool
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

from ..module_utils._docker import daemon, daemon_json
from ..module_utils._docker import engines as docker_engines
from ..module_utils._docker.daemon import Engine, State
from ..module_utils._docker.daemon_json import DaemonJsonError, Owned
from ..module_utils._host import hostfile
from ..module_utils._host.hostfile import MISSING, Entry

ENGINE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Plan(t.NamedTuple):
    """The file that dockerd reads, as it is and as it is wanted, and the engine that reads it."""

    path: str
    present: Entry
    wanted: Entry
    state: State
    owned: list[Owned]
    #: Whether a running engine has to take live-restore from the file before anything restarts it.
    reload: bool
    warning: str


def read_file(path: str) -> tuple[Entry, dict[str, t.Any]]:
    """Return the file and what is set in it."""
    try:
        present = hostfile.read(path)
        if present.link is not None:
            raise DaemonJsonError(f"{path} is a link to {present.link}; replace it by the file itself")
        (present.text or "").encode("utf-8")
    except UnicodeEncodeError as exc:
        raise DaemonJsonError(f"{path} is not UTF-8 text, at {daemon_json.place(exc.object, exc.start)}\nRepair the file; it was not changed") from exc
    return present, daemon_json.parse(present.text or "", path)


def refuse_other_engines(shown: t.Mapping[str, str]) -> None:
    """Refuse a host whose containers run in an engine that reads other settings. Next to a running docker.service such an engine does no harm."""
    engines = docker_engines.other_engines()
    if engines and shown.get("ActiveState") != "active":
        fact, remedy = docker_engines.engine_fault(engines[0])
        raise DaemonJsonError(f"{fact}; {remedy}. Nothing was changed")


def without_swarm_conflict(settings: dict[str, t.Any], path: str) -> tuple[dict[str, t.Any], str]:
    """Return the settings that the member of a swarm can start with, and what to warn of."""
    if not settings.get("live-restore"):
        return settings, ""
    kept = {key: value for key, value in settings.items() if key != "live-restore"}
    return kept, (
        f"the host is a member of a swarm, with which Docker refuses live-restore, so {path} does not get it: the containers of this host stop while"
        " Docker restarts; drain the node first (docker node update --availability drain), or leave the swarm (docker swarm leave)"
    )


def plan(module: AnsibleModule, engine: Engine) -> Plan:
    """Compare the file with what is wanted. Changes nothing."""
    state_file: str = module.params["state_file"]
    settings = daemon_json.with_truth_values(module.params["settings"]) if module.params["state"] == "present" else {}
    if "dns" in settings:
        daemon_json.check_dns(settings["dns"])
    shown = engine.show()
    arguments, where = engine.arguments(shown)
    path = engine.config_file(arguments)
    if module.params["path"] not in (None, path):
        raise DaemonJsonError(f"dockerd reads {path} and not {module.params['path']}, as {where} has it; leave path out. Nothing was changed")
    if settings:
        refuse_other_engines(shown)
    present, content = read_file(path)
    state = daemon.state_of(state_file, path)
    info = engine.info(shown)
    data_root = daemon_json.flag_value(arguments, "--data-root") or str(content.get("data-root") or daemon.DATA_ROOT)
    warning = ""
    swarm = daemon.in_swarm(info) if info else daemon.swarm_on_disk(data_root)
    if swarm:
        settings, warning = without_swarm_conflict(settings, path)
    merged, owned = daemon_json.merge(content, settings, state.owned)
    if swarm and settings and merged.get("live-restore"):
        raise DaemonJsonError(
            f"{path} has live-restore, and the host is a member of a swarm, so dockerd would not start again; remove the key there. Nothing was changed"
        )
    if settings:
        daemon_json.check_conflicts(merged, daemon_json.flag_keys(arguments), path, where)
    wanted = present if merged == content else Entry(text=daemon_json.render(merged), mode=present.mode)
    made_here = state.original is not None and state.original.text is None
    # A file that the command line names must be there.
    if module.params["state"] == "absent" and not merged and made_here and not daemon_json.flag_value(arguments, "--config-file"):
        wanted = MISSING
    if wanted[:2] != present[:2] and (state.good is None or engine.runs_with(shown, path)):
        # What the engine runs with now is what it goes back to, should it not start with the new file.
        state = state._replace(good=present, good_owned=state.owned)
    reload = bool(settings.get("live-restore") and info and not info.get("LiveRestoreEnabled"))
    return Plan(path, present, wanted, state, owned, reload, warning)


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Do what the arguments say."""
    engine = Engine(lambda command: t.cast("tuple[int, str, str]", module.run_command(command)), module.params["unit"], module.params["socket"])
    if not module.check_mode and engine.show().get("NeedDaemonReload") == "yes":
        # The next restart obeys what is on the disk now, --config-file included.
        module.run_command(["systemctl", "daemon-reload"])
    dockerd = shutil.which("dockerd", path=ENGINE_PATH) or ""
    found = plan(module, engine)
    path, differs = found.path, found.wanted[:2] != found.present[:2]
    if found.warning and differs:
        module.warn(f"Host {platform.node()}: {found.warning}.")
    result = {
        "changed": differs or found.reload,
        "engine": dockerd,
        "path": path,
        "backup": "",
        "reloaded": found.reload,
        "diff": {"before_header": path, "after_header": path, "before": found.present.shown(), "after": found.wanted.shown()},
    }
    if module.check_mode:
        return result
    if differs and dockerd and found.wanted.text is not None:
        check_with(module, dockerd, found.wanted, path)
    if module.params["state"] == "absent":
        remove(module, found, differs)
    else:
        result["backup"] = write(module, found, differs)
    if found.reload:
        keep_containers(module, engine, found)
    return result


def remove(module: AnsibleModule, found: Plan, differs: bool) -> None:
    """Write the file without the settings, and remove the copies."""
    daemon.back_up(found.path, MISSING, 0, time.time())
    hostfile.write(f"{found.path}.refused", MISSING)
    # The knowledge of the file that ran stays until the restart has succeeded.
    if differs:
        daemon.save_state(module.params["state_file"], _first_seen(found)._replace(owned=[]))
        hostfile.write(found.path, found.wanted)
    else:
        hostfile.write(module.params["state_file"], MISSING)


def write(module: AnsibleModule, found: Plan, differs: bool) -> str:
    """Write the file with the settings, and return the copy of the former one."""
    backup = ""
    if differs:
        backup = daemon.back_up(found.path, found.present, module.params["backups"], time.time()) or ""
    if differs or found.owned != found.state.owned:
        state = _first_seen(found) if differs else found.state
        daemon.save_state(module.params["state_file"], state._replace(owned=found.owned))
    if differs:
        hostfile.write(found.path, found.wanted)
    return backup


def _first_seen(found: Plan) -> State:
    return found.state._replace(original=found.state.original if found.state.original is not None else found.present)


def keep_containers(module: AnsibleModule, engine: Engine, found: Plan) -> None:
    """Let the running engine take live-restore from the file, or put the former file back: its restart would stop every container."""
    reason = engine.take_live_restore(True, module.params["timeout"])
    if reason is None:
        return
    hostfile.write(found.path, found.present)
    daemon.save_state(module.params["state_file"], found.state)
    raise DaemonJsonError(
        f"Docker runs without live-restore, and {reason}, so a restart would stop the containers of this host; see 'journalctl -u {engine.unit}', or let"
        f" them stop (docker_daemon_dns_live_restore: false). The former {found.path} is back in place"
    )


def check_with(module: AnsibleModule, dockerd: str, wanted: Entry, path: str) -> None:
    """Let dockerd validate the file, when it can."""
    if "--validate" not in module.run_command([dockerd, "--help"])[1]:
        return
    candidate = f"{module.tmpdir}/daemon.json"
    hostfile.write(candidate, wanted)
    rc, stdout, stderr = module.run_command([dockerd, "--validate", f"--config-file={candidate}"])
    if rc != 0:
        raise DaemonJsonError(
            f"dockerd refuses the new {path}: {(stderr or stdout).strip()}\nCorrect the settings (docker_daemon_dns_daemon_options"
            " or the file's own); nothing was changed"
        )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "settings": {"type": "dict", "default": {}},
            "path": {"type": "path"},
            "backups": {"type": "int", "default": 3},
            "unit": {"type": "str", "default": "docker.service"},
            "socket": {"type": "path", "default": "/run/docker.sock"},
            "timeout": {"type": "int", "default": 10},
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
