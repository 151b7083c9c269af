# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which service meta an edge reads."""

from __future__ import annotations

DOCUMENTATION = r"""
name: edge_meta
short_description: Which service meta an edge reads
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - An instance tells the edge by its service meta how it is to be served. This returns the keys that the sources of
    P(trinode.platform.http_upstreams#filter) and P(trinode.platform.tcp_upstreams#filter) read.
  - A registrator that knows them can warn of a label with a mistake in its name, and of one that has no effect.
extends_documentation_fragment:
  - trinode.platform._edge
seealso:
  - plugin: trinode.platform.http_upstreams
    plugin_type: filter
  - plugin: trinode.platform.tcp_upstreams
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Warn of labels that the edge cannot use
  ansible.builtin.set_fact:
    registrator_known_meta: "{{ edge | trinode.platform.edge_meta }}"
  vars:
    edge:
      domain: apps.hospital.example
    # edge_port: [tcp]
    # edge_canary: [http]
    # edge_weight: [http, tcp, tls]
    # and so on
"""

RETURN = r"""
_value:
  description: The keys, each with the tags of which an instance needs one for the key to have an effect.
  type: dict
"""

import typing as t

from ..plugin_utils._edge import meta as logic
from ..plugin_utils._edge.glue import generate


def edge_meta(edge: t.Any) -> dict[str, list[str]]:
    """The filter."""
    return generate("edge_meta", logic.edge_meta, edge)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"edge_meta": edge_meta}
