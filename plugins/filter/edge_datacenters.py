# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The consul-template sources that fetch the edge's services of other data centres."""

from __future__ import annotations

DOCUMENTATION = r"""
name: edge_datacenters
short_description: The consul-template sources that fetch the edge's services of other data centres
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - For each data centre of O(_input.remote_services), a complete consul-template source that keeps the instances of these services there in a file.
    The sources of P(trinode.platform.http_upstreams#filter) and P(trinode.platform.tcp_upstreams#filter) read these files.
  - They belong into a consul-template process of its own. A data centre that is away does not answer, and a process is ready only when all of its sources
    are rendered. Apart, what is here never waits for what is there, and what was known of it last stays in the file.
extends_documentation_fragment:
  - trinode.platform._edge
seealso:
  - plugin: trinode.platform.http_upstreams
    plugin_type: filter
  - plugin: trinode.platform.tcp_upstreams
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Let the edge also use the instances of the other site
  ansible.builtin.include_role:
    name: trinode.platform.consul_template
  vars:
    edge:
      domain: apps.hospital.example
      remote_services:
        - {name: shop, datacenter: dc2}
        - {name: archive, datacenter: dc2, use: always}
    consul_template_apart: "{{ edge | trinode.platform.edge_datacenters }}"
    consul_template_templates:
      - name: http
        contents: "{{ edge | trinode.platform.http_upstreams }}"
        destination: /var/lib/nginx-edge/staging/http.conf
        command: [/usr/local/bin/reload-edge]
"""

RETURN = r"""
_value:
  description:
    - One dictionary for each data centre, as the role P(trinode.platform.consul_template#role) takes it. C(name), C(contents) with the source, C(destination)
      with its file below O(_input.remote_directory), and C(initial), which must be there before the sources of the edge are rendered for the first time.
  type: list
  elements: dict
"""

import typing as t

from ..plugin_utils._edge.datacenters import datacenter_templates
from ..plugin_utils._edge.glue import generate


def edge_datacenters(edge: t.Any) -> list[dict[str, str]]:
    """The filter."""
    return generate("edge_datacenters", datacenter_templates, edge)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"edge_datacenters": edge_datacenters}
