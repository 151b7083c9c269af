#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the management token, the policies and the tokens of a Consul cluster in order."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_acl
short_description: Bring the ACL tokens of a Consul cluster in order
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Makes O(management_token) the management token of a cluster that has none yet, then makes every token of O(tokens) with a policy of its own.
  - All secrets are the caller's. They are kept before they are sent, so that a run that breaks off, or an answer that gets lost, costs nothing.
  - Policies and tokens whose name begins with C(trinode-) are the module's own; it touches no other one.
  - One call for all of them, because a run of the whole platform makes it each time.
  - Run it once for a cluster, on any host with an agent.
options:
  url:
    description: [The HTTP API of the agent on this host.]
    type: str
    default: http://127.0.0.1:8500
  datacenter:
    description: [The datacenter of the nodes.]
    type: str
    default: dc1
  management_token:
    description: The secret of the management token, a UUID.
    type: str
    required: true
  next_management_token:
    description: [The secret that is to be the management token from now on. The present one is deleted once this one works.]
    type: str
  tokens:
    description: [The tokens.]
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: [What the token is called. Policy and token carry it behind C(trinode-).]
        type: str
        required: true
      secret:
        description: Its secret, a UUID.
        type: str
        required: true
      rules:
        description: The rules of its policy, in Consul's language.
        type: str
        default: ""
      node:
        description: [The node whose agent it is. The token gets the rights of this node identity.]
        type: str
        default: ""
  purge:
    description:
      - Whether to delete tokens and policies of the module's that are not wanted any more, such as the old ones after a rotation.
        Without it they are only told.
    type: bool
    default: false
  reset:
    description:
      - Whether a cluster that has a management token which is not O(management_token) is told in RV(reset_index) instead of as an error.
    type: bool
    default: false
  timeout:
    description: How long to wait for a leader, and until it takes the management token, in seconds.
    type: int
    default: 90
attributes:
  check_mode:
    description: Can run in check mode and tells what it would change.
    support: full
  diff_mode:
    description: Names policies and tokens that change, and never a secret.
    support: full
seealso:
  - module: community.general.consul_acl_bootstrap
  - module: community.general.consul_policy
  - module: community.general.consul_token
"""

EXAMPLES = r"""
- name: Make the tokens
  trinode.platform.consul_acl:
    management_token: "{{ management }}"
    tokens:
      - name: dns
        secret: "{{ dns }}"
        rules: |
          node_prefix "" { policy = "read" }
          service_prefix "" { policy = "read" }
  run_once: true
"""

RETURN = r"""
bootstrapped:
  description: Whether the cluster had no management token before.
  type: bool
  returned: success
reset_index:
  description: V(0), or the number that Consul wants to find in the file C(acl-bootstrap-reset) of the leader's data directory.
  type: int
  returned: success
leader:
  description: The address of the leader.
  type: str
  returned: success
surplus:
  description: The names of tokens and policies that are not wanted any more.
  type: list
  elements: str
  returned: success
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.trinode.platform.plugins.module_utils import _consul_acl as acl


def replace_management(module: AnsibleModule, client: acl.AclApi, successor: str) -> acl.AclApi:
    """Let another secret be the management token; returns the client that uses it."""
    tokens = client.tokens()
    old = [token for token in tokens if token.get("SecretID") == client.api.token]
    if not any(token.get("SecretID") == successor for token in tokens):
        client.call("PUT", "/v1/acl/token", {"SecretID": successor, "Description": "Management token", "Policies": [{"Name": acl.MANAGEMENT_POLICY}]})
    new = acl.AclApi(module.params["url"], successor)
    acl.bootstrap(new, module.params["timeout"])
    for token in old:
        new.call("DELETE", f"/v1/acl/token/{token['AccessorID']}")
    return new


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "datacenter": {"type": "str", "default": "dc1"},
            "management_token": {"type": "str", "required": True, "no_log": True},
            "next_management_token": {"type": "str", "no_log": True},
            "tokens": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "secret": {"type": "str", "required": True, "no_log": True},
                    "rules": {"type": "str", "default": ""},
                    "node": {"type": "str", "default": ""},
                },
            },
            "purge": {"type": "bool", "default": False},
            "reset": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    params: dict[str, t.Any] = module.params
    wanted = [acl.Wanted(**token) for token in params["tokens"]]
    successor = params["next_management_token"]
    client = acl.AclApi(params["url"], params["management_token"])
    try:
        acl.check(wanted, params["management_token"])
        if module.check_mode and not client.leader():
            module.exit_json(changed=True, bootstrapped=True, reset_index=0, leader="", surplus=[])
        if successor:
            # A rotation that broke off may have deleted the old one already.
            try:
                first = acl.bootstrap(acl.AclApi(params["url"], successor), 0, dry=True)
                if first.state == "there":
                    client = acl.AclApi(params["url"], successor)
            except acl.AclError:
                pass
        first = acl.bootstrap(client, params["timeout"], dry=module.check_mode)
        if first.state == "lost":
            if not params["reset"]:
                raise acl.AclError(
                    "the cluster has a management token, and the one of the secrets is none: bring the file consul_token_management back into the"
                    " directory of the secrets, or run again with -e consul_acl_reset=true, which uses root's right on the leader to make this one valid"
                )
            module.exit_json(changed=True, bootstrapped=False, reset_index=first.reset_index, leader=first.leader, surplus=[])
        if module.check_mode and first.state == "made":
            module.exit_json(changed=True, bootstrapped=True, reset_index=0, leader=first.leader, surplus=[])
        rotated = bool(successor and successor != client.api.token)
        if rotated and not module.check_mode:
            client = replace_management(module, client, successor)
        todo = acl.plan(wanted, client.policies(), client.tokens(), params["datacenter"])
        if not module.check_mode:
            acl.apply(client, todo, params["purge"])
    except (acl.AclError, acl.Refused, OSError, ValueError) as error:
        module.fail_json(msg=f"The tokens of the Consul cluster behind {params['url']} were not brought in order: {error}")
    surplus = sorted({description for _accessor, description in todo.surplus} | {name for _identity, name in todo.surplus_policies})
    named = [str(policy["Name"]) for policy in todo.policies] + [str(token["Description"]) for token in todo.create]
    named += [str(token["Description"]) for _accessor, token in todo.update]
    module.exit_json(
        changed=bool(first.state == "made" or rotated or named or (params["purge"] and surplus)),
        bootstrapped=first.state == "made",
        reset_index=0,
        leader=first.leader,
        surplus=surplus,
        diff={"before": "".join(f"{name}\n" for name in surplus if params["purge"]), "after": "".join(f"{name}\n" for name in sorted(set(named)))},
    )


if __name__ == "__main__":
    main()
