# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that watch over a Consul agent share. Private to the collection."""

from __future__ import annotations

import typing as t

from .cluster import ConsulApi, Server

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

JOURNAL_LINES = 15

#: The options that trinode.platform._consul_agent documents.
AGENT_ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "node": {"type": "str", "required": True},
    "url": {"type": "str", "default": "http://127.0.0.1:8500"},
    "token": {"type": "str", "no_log": True},
    "token_file": {"type": "path", "no_log": False},
    "timeout": {"type": "int", "default": 60},
}
#: The same with those that trinode.platform._consul_cluster documents.
ARGUMENTS: dict[str, dict[str, t.Any]] = {
    **AGENT_ARGUMENTS,
    "servers": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"name": {"type": "str", "required": True}, "address": {"type": "str", "required": True}},
    },
    "mode": {"type": "str", "choices": ["server", "client"], "default": "server"},
    "unit": {"type": "str", "default": "consul.service"},
    "remedy": {"type": "str", "default": ""},
}


def api_of(module: AnsibleModule) -> ConsulApi:
    """The API that the module's arguments name. A token file that is not there means that there are no tokens yet."""
    token, path = module.params["token"], module.params["token_file"]
    if not token and path:
        try:
            with open(path, encoding="ascii") as file:
                token = file.read().strip()
        except FileNotFoundError:
            token = None
        except (OSError, UnicodeError) as error:
            module.fail_json(msg=f"{module.params['node']}: the token file {path} cannot be read ({error}); correct it and run again.")
    return ConsulApi(module.params["url"], token)


def servers_of(module: AnsibleModule) -> list[Server]:
    """The servers that the module's arguments name."""
    return [Server(server["name"], server["address"]) for server in module.params["servers"]]


def journal(module: AnsibleModule, unit: str) -> str:
    """The end of a unit's journal, for an error message."""
    rc, stdout, stderr = module.run_command(["journalctl", "--no-pager", "--output=cat", f"--lines={JOURNAL_LINES}", f"--unit={unit}"])
    text: str = stdout if rc == 0 else stderr
    return text.rstrip() or "(empty)"


def with_remedy(module: AnsibleModule, message: str) -> str:
    """An error message with what the caller has to add."""
    return f"{message.rstrip()}\n{module.params['remedy']}".rstrip()
