#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the prepared queries of a Consul data centre."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_prepared_queries
short_description: Keep the prepared queries of a Consul data centre
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Makes, changes and deletes prepared queries until those that this module made are the ones of O(queries). Queries of others are left alone.
  - A query is resolved as C(NAME.query.DOMAIN), and may answer with instances of other data centres when this one has none.
  - A query that was made here carries the mark V(!made-by-trinode.platform) among its tags, which every instance fulfils that has no such tag.
  - Where somebody else made a query with one of the names, nothing is changed and the error says how to go on.
extends_documentation_fragment: [trinode.platform._consul_agent]
options:
  queries:
    description: [The queries that there are to be. An empty list deletes all that were made here.]
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the query. It takes up to 63 lower-case letters, digits and hyphens.
        type: str
        required: true
      service:
        description: The service whose instances it answers with. Left out, it is the one of the query's own name.
        type: str
      tags:
        description: The tags that an instance must have, all of them. With C(!) in front, one that it must not have.
        type: list
        elements: str
        default: []
      only_passing:
        description: Whether instances with a warning are left out too.
        type: bool
        default: true
      near:
        description: A node, by the distance to which instances are sorted. V(_agent) is the one that was asked.
        type: str
        default: ""
      ttl:
        description: How long a DNS answer may be kept, such as V(10s).
        type: str
        default: ""
      failover:
        description: Where to look when this data centre has no healthy instance.
        type: dict
        default: {}
        suboptions:
          nearest_n:
            description: So many other data centres, the nearest first.
            type: int
            default: 0
          datacenters:
            description: These data centres, in this order, after those of O(queries[].failover.nearest_n).
            type: list
            elements: str
            default: []
  token:
    description: An ACL token with C(query_prefix:write), where ACLs are on.
    type: str
attributes:
  check_mode:
    description: Can run in check mode and tells what it would change. Without a Consul that answers, it takes it that there are no queries yet.
    support: full
  diff_mode:
    description: Shows the queries that were made here, before and after.
    support: full
seealso:
  - name: Prepared queries
    description: What Consul says about them.
    link: https://developer.hashicorp.com/consul/api-docs/query
"""

EXAMPLES = r"""
- name: Let callers of shop.query.consul get an instance of the other site when this one has none
  trinode.platform.consul_prepared_queries:
    node: consul-1
    queries:
      - name: shop
        near: _agent
        failover:
          datacenters: [dc2]
"""

RETURN = r"""
created:
  description: Names of the queries that were made.
  type: list
  elements: str
  returned: success
updated:
  description: Names of the queries that were changed.
  type: list
  elements: str
  returned: success
deleted:
  description: Names of the queries that were deleted.
  type: list
  elements: str
  returned: success
"""

import json
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._consul import prepared_query as pq
from ..module_utils._consul.cluster import ConsulApi
from ..module_utils._consul.module import AGENT_ARGUMENTS, api_of

POLL_SECONDS = 0.5


def present(module: AnsibleModule, api: ConsulApi) -> list[dict[str, t.Any]]:
    """All queries that there are. An election may be under way, so it is asked for some time."""
    deadline = time.monotonic() + module.params["timeout"]
    while True:
        try:
            return api.request("/v1/query") or []
        except OSError as error:
            if module.check_mode:
                module.warn(f"{module.params['node']}: Consul does not tell its prepared queries yet: {error}")
                return []
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def main() -> None:
    """Entry point of the module."""
    text = {"type": "str", "default": ""}
    names = {"type": "list", "elements": "str", "default": []}
    query = {
        "name": {"type": "str", "required": True},
        "service": {"type": "str"},
        "tags": names,
        "only_passing": {"type": "bool", "default": True},
        "near": text,
        "ttl": text,
        "failover": {"type": "dict", "default": {}, "options": {"nearest_n": {"type": "int", "default": 0}, "datacenters": names}},
    }
    module = AnsibleModule(
        argument_spec={**AGENT_ARGUMENTS, "queries": {"type": "list", "elements": "dict", "required": True, "options": query}}, supports_check_mode=True
    )
    params: dict[str, t.Any] = module.params
    wrong = pq.faults(params["queries"])
    if wrong:
        module.fail_json(msg=f"{params['node']}: {'; '.join(wrong)}. Nothing was changed.")
    api = api_of(module)
    try:
        todo = pq.plan(params["queries"], present(module, api))
    except pq.QueryError as error:
        module.fail_json(msg=f"{params['node']}: {error}. Nothing was changed.")
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"The Consul agent on {params['node']} does not tell the prepared queries: {error}. See `journalctl -u consul` there.")
    changed = bool(todo.create or todo.update or todo.delete)
    if changed and not module.check_mode:
        try:
            pq.apply(api, todo)
        except (OSError, ValueError) as error:
            module.fail_json(msg=f"The Consul agent on {params['node']} refused a prepared query: {error}. Correct this and run again.")
    diff = {side: "".join(json.dumps(one, indent=2, sort_keys=True) + "\n" for one in getattr(todo, side)) for side in ("before", "after")}
    module.exit_json(
        changed=changed,
        created=[body["Name"] for body in todo.create],
        updated=[body["Name"] for _identity, body in todo.update],
        deleted=[name for _identity, name in todo.delete],
        diff={**diff, "before_header": "prepared queries", "after_header": "prepared queries"},
    )


if __name__ == "__main__":
    main()
