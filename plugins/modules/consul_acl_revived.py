#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End the tokens that a restored snapshot revived."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_acl_revived
short_description: End the tokens that a restored snapshot revived
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - A snapshot holds the tokens of its time. Restored, it makes those valid again that were deleted since, for example
    because they were stolen.
  - Without O(known), returns what the ACL system of the cluster has now. With it, lists tokens, roles, policies, auth
    methods and binding rules that were not there before the restore, and deletes them.
  - After the restore into another cluster than the one of the snapshot, nothing tells what had been deleted. They are
    listed and stay.
  - What the platform made is left out. M(trinode.platform.consul_acl) ends what is unwanted of it.
options:
  url:
    description: The HTTP API of an agent.
    type: str
    default: http://127.0.0.1:8500
  management_token:
    description: The management token of the cluster.
    type: str
    required: true
  known:
    description: What this module returned in RV(known) before the snapshot was restored.
    type: dict
attributes:
  check_mode:
    description: Can run in check mode and reports what it would delete.
    support: full
  diff_mode:
    description: The result lists what was deleted.
    support: none
seealso:
  - module: trinode.platform.consul_acl
"""

EXAMPLES = r"""
- name: Remember the tokens of the cluster
  trinode.platform.consul_acl_revived:
    management_token: "{{ management }}"
  register: before

- name: End the tokens that the snapshot revived
  trinode.platform.consul_acl_revived:
    management_token: "{{ management }}"
    known: "{{ before.known }}"
"""

RETURN = r"""
known:
  description: Identities by kind, without a secret.
  type: dict
  returned: without O(known)
revived:
  description: What the snapshot revived, one text for each, without a secret.
  type: list
  elements: str
  returned: with O(known)
ended:
  description: Whether that was deleted.
  type: bool
  returned: with O(known)
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._consul import acl
from ..module_utils._consul import acl_held as holdings
from ..module_utils._consul import acl_revived as revived


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "management_token": {"type": "str", "required": True, "no_log": True},
            "known": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    params: dict[str, t.Any] = module.params
    client = acl.AclApi(params["url"], params["management_token"])
    try:
        held = holdings.read(client)
        if params["known"] is None:
            module.exit_json(changed=False, known=revived.known(held, params["management_token"]))
        result = revived.compare(params["known"], held, params["management_token"])
        ended = result.same_cluster and bool(result.revived)
        if ended and not module.check_mode:
            for one in result.revived:
                holdings.delete(client, one.path)
    except (acl.AclError, acl.Refused, OSError, ValueError) as error:
        module.fail_json(
            msg=f"The tokens of the Consul cluster behind {params['url']} cannot be compared: {error}; bring the file"
            " consul_token_management of this cluster into the directory of the secrets"
        )
    module.exit_json(changed=ended, ended=ended, revived=[one.text for one in result.revived])


if __name__ == "__main__":
    main()
