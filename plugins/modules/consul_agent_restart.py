#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start or restart a Consul agent without costing the cluster its quorum."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_agent_restart
short_description: Start or restart a Consul agent without costing the cluster its quorum
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Starts an agent that does not run, and does not wait for it, so that the servers of a new cluster can start together.
    M(trinode.platform.consul_cluster_health) does the waiting.
  - Restarts a running server only while autopilot reports a failure tolerance of at least 1, hands the leadership over first,
    and waits until the cluster is healthy with this server as a voter again. A server that never joined, because it is new, is not waited for.
  - Does not use C(consul leave), which shrinks the quorum.
  - Meant to run three times. With O(restart=none) on all hosts together, because a new server has to be there before those that run may restart;
    then, on one host at a time with C(throttle=1), where nothing was started, with O(restart=followers) and with O(restart=all).
extends_documentation_fragment: [trinode.platform._consul_agent, trinode.platform._consul_cluster]
options:
  restart:
    description:
      - What to do with an agent that runs. V(none) leaves it alone, V(followers) leaves it alone where it leads the cluster, V(all) restarts it.
    type: str
    choices: [none, followers, all]
    default: all
attributes:
  check_mode:
    description: Can run in check mode and returns changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: none
seealso:
  - module: trinode.platform.consul_cluster_health
"""

EXAMPLES = r"""
- name: Restart the followers, one at a time
  trinode.platform.consul_agent_restart:
    node: consul-1
    servers: "{{ servers }}"
    restart: followers
  throttle: 1
"""

RETURN = r"""
action:
  description: What was done. V(left) means that the agent runs, and O(restart) leaves it alone.
  type: str
  choices: [started, restarted, left]
  returned: success
seconds:
  description: How long it took until the cluster was healthy again.
  type: float
  returned: success
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._consul.cluster import (
    ClusterState,
    ConsulApi,
    evaluate,
    is_leader,
    may_restart,
    present,
    split_address,
)
from ..module_utils._consul.module import ARGUMENTS, api_of, journal, servers_of, with_remedy
from ..module_utils._host.unit_drift import parse_properties

POLL_SECONDS = 0.25


def systemctl(module: AnsibleModule, *arguments: str) -> str:
    """Run systemctl; an error of it ends the module."""
    rc, stdout, stderr = module.run_command(["systemctl", *arguments])
    if rc != 0:
        module.fail_json(msg=f"systemctl {' '.join(arguments)} failed on {module.params['node']}: {(stderr or stdout).strip()}")
    output: str = stdout
    return output


def start_anew(module: AnsibleModule, unit: str) -> None:
    """Start or restart the unit as its files are now, and at each boot, without waiting for it."""
    systemctl(module, "daemon-reload")
    systemctl(module, "enable", unit)
    systemctl(module, "restart", "--no-block", unit)


def wait(deadline: float, look: t.Callable[[], ClusterState], problems_of: t.Callable[[ClusterState], list[str]]) -> tuple[ClusterState, list[str]]:
    """Look until there are no problems or the time is up."""
    while True:
        state = look()
        problems = problems_of(state)
        if not problems or time.monotonic() > deadline:
            return state, problems
        time.sleep(POLL_SECONDS)


def hand_over(api: ConsulApi, address: str, deadline: float) -> None:
    """Give the leadership to another server; best effort, a restart without it costs an election."""
    try:
        api.request("/v1/operator/raft/transfer-leader", method="POST")
    except (OSError, ValueError):
        return
    while time.monotonic() < deadline:
        leader = api.optional("/v1/status/leader")
        if leader and split_address(leader) != address:
            return
        time.sleep(POLL_SECONDS)


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={**ARGUMENTS, "restart": {"type": "str", "choices": ["none", "followers", "all"], "default": "all"}},
        supports_check_mode=True,
    )
    params = module.params
    node, unit, mode = params["node"], params["unit"], params["mode"]
    api, servers = api_of(module), servers_of(module)
    started = time.monotonic()

    def elapsed() -> float:
        return round(time.monotonic() - started, 2)

    rc, _stdout, _stderr = module.run_command(["systemctl", "is-active", "--quiet", unit])
    if rc != 0:
        if not module.check_mode:
            start_anew(module, unit)
        module.exit_json(changed=True, action="started", seconds=elapsed())
    if params["restart"] == "none":
        module.exit_json(changed=False, action="left", seconds=elapsed())

    def look() -> ClusterState:
        return api.state(mode)

    state = look()
    address = next((server.address for server in servers if server.name == node), "")
    leads = mode == "server" and is_leader(state, address)
    if leads and params["restart"] == "followers":
        module.exit_json(changed=False, action="left", seconds=elapsed())
    if module.check_mode:
        module.exit_json(changed=True, action="restarted", seconds=elapsed())
    if mode == "server":
        state, problems = wait(started + params["timeout"], look, lambda seen: may_restart(seen, servers, node))
        if problems:
            module.fail_json(
                msg=with_remedy(
                    module,
                    f"{node} was not restarted, because the cluster could lose its quorum: {'; '.join(problems)}."
                    " Repair the servers named here first; the old configuration keeps running until then.",
                )
            )
    expected = present(state, servers)
    if leads and len(servers) > 1:
        hand_over(api, address, time.monotonic() + 10)
    start_anew(module, unit)
    # The old process may answer for a moment; a restart is seen by the time that the unit was last started.
    state, problems = wait(
        time.monotonic() + params["timeout"],
        look,
        lambda seen: [*not_started(module, unit), *evaluate(seen, expected, node, mode)],
    )
    if problems:
        module.fail_json(
            msg=with_remedy(
                module,
                f"The Consul cluster is not healthy {params['timeout']} s after the restart of {node}: {'; '.join(problems)}."
                f" The next server waits until it is. The end of its journal:\n{journal(module, unit)}",
            )
        )
    module.exit_json(changed=True, action="restarted", seconds=elapsed())


def not_started(module: AnsibleModule, unit: str) -> list[str]:
    """Whether systemd still works on the restart."""
    shown = parse_properties(systemctl(module, "show", "--property=ActiveState,SubState,Job", "--", unit))
    if shown.get("ActiveState") == "active" and shown.get("Job", "") in ("", "0"):
        return []
    return [f"{unit} is not up yet ({shown.get('ActiveState')}/{shown.get('SubState')})"]


if __name__ == "__main__":
    main()
