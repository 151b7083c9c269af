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
  - Policies and tokens whose name begins with C(trinode-) are the module's own. It repairs their rights, and takes all rights from the anonymous token.
  - Other tokens, policies, roles, auth methods and binding rules are returned in RV(unknown), and deleted only when O(end_unknown) names them.
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
  initial_token:
    description:
      - The secret of the first management token, which the servers of a new cluster have in their configuration (C(initial_management)).
        O(management_token) is made with it, and Consul's bootstrap call, which anybody could make, is not used.
    type: str
  ended_token:
    description: [The secret of a token that is not needed any more. It is deleted once O(management_token) works.]
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
  end_unknown:
    description:
      - What to delete of RV(unknown). The accessors of tokens, the names of auth methods, the ids of policies, roles and binding rules, or V(all).
      - An auth method ends together with its binding rules and with all tokens that were made by it.
    type: list
    elements: str
    default: []
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
repaired:
  description: The names of tokens and policies that had other rights than the module gives them, such as an anonymous token with rights.
  type: list
  elements: str
  returned: success
unknown:
  description: >-
    A line about each token, policy, role, auth method and binding rule that the module did not make, with its accessor or id, description, rights and
    time of creation. Never with a secret.
  type: list
  elements: str
  returned: success
ended:
  description: The lines of those that O(end_unknown) ended.
  type: list
  elements: str
  returned: success
missing:
  description: What of O(end_unknown) the cluster does not have.
  type: list
  elements: str
  returned: success
report:
  description: What an operator should read, in sentences. Empty when the cluster has the wanted tokens and nothing else.
  type: list
  elements: str
  returned: success
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._consul import acl
from ..module_utils._consul.acl_sync import Outcome, Request, report, sync


def answer(changed: bool, first: acl.Bootstrap, outcome: Outcome, purge: bool = False) -> dict[str, t.Any]:
    """What the module returns."""
    before = [*(outcome.surplus if purge else ()), *outcome.ended]
    return {
        "changed": changed,
        "bootstrapped": first.state == "made",
        "reset_index": first.reset_index,
        "leader": first.leader,
        "surplus": list(outcome.surplus),
        "repaired": list(outcome.repaired),
        "unknown": list(outcome.unknown),
        "ended": list(outcome.ended),
        "missing": list(outcome.missing),
        "report": report(outcome, purge),
        "diff": {
            "before": "".join(f"{line}\n" for line in before),
            "after": "".join(f"{name}\n" for name in sorted({*outcome.made, *outcome.repaired})),
        },
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "datacenter": {"type": "str", "default": "dc1"},
            "management_token": {"type": "str", "required": True, "no_log": True},
            "next_management_token": {"type": "str", "no_log": True},
            "initial_token": {"type": "str", "no_log": True},
            "ended_token": {"type": "str", "no_log": True},
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
            "end_unknown": {"type": "list", "elements": "str", "default": []},
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
            module.exit_json(**answer(True, acl.Bootstrap("made"), Outcome()))
        if successor:
            # A rotation that broke off may have deleted the old one already.
            try:
                first = acl.bootstrap(acl.AclApi(params["url"], successor), 0, dry=True)
                if first.state == "there":
                    client = acl.AclApi(params["url"], successor)
            except acl.AclError:
                pass
        initial = params["initial_token"] or ""
        first = acl.bootstrap(client, params["timeout"], dry=module.check_mode, initial=initial)
        if first.state == "lost":
            if not params["reset"]:
                raise acl.AclError(
                    "the cluster has a management token, and the one of the secrets is none: bring the file consul_token_management back into the"
                    " directory of the secrets, or run again with -e consul_acl_reset=true, which uses root's right on the leader to make this one valid"
                )
            module.exit_json(**answer(True, first, Outcome()))
        if module.check_mode and first.state == "made":
            module.exit_json(**answer(True, first, Outcome()))
        rotated = bool(successor and successor != client.api.token)
        if successor and not module.check_mode:
            client, rotated = acl.replace_management(client, params["management_token"], successor, params["timeout"])
        ended = acl.end(client, params["ended_token"] or "", dry=module.check_mode)
        request = Request(wanted, params["datacenter"], params["purge"], params["end_unknown"], initial)
        outcome = sync(client, request, dry=module.check_mode)
    except (acl.AclError, acl.Refused, OSError, ValueError) as error:
        module.fail_json(msg=f"The tokens of the Consul cluster behind {params['url']} were not brought in order: {error}")
    changed = first.state == "made" or rotated or ended or bool(outcome.made or outcome.repaired or outcome.ended or (params["purge"] and outcome.surplus))
    module.exit_json(**answer(changed, first, outcome, params["purge"]))


if __name__ == "__main__":
    main()
