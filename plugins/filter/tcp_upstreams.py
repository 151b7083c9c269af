# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The consul-template source of the edge's TCP and TLS side."""

from __future__ import annotations

DOCUMENTATION = r"""
name: tcp_upstreams
short_description: The consul-template source of the edge's TCP and TLS side
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Turns the description of an edge into a complete consul-template source. What consul-template renders from it belongs into nginx's C(stream) block.
  - Every passing instance that carries O(_input.tcp_tag) is reached on a port of the edge. The port is that of service meta C(edge_port), else the
    number at the end of a service name such as C(echo-9999).
  - Every passing instance that carries O(_input.tls_tag) is reached as C(NAME.domain) on O(_input.tls_port). TLS is passed through untouched, so the
    client sees the certificate of the service.
  - Connections go to the instance with the fewest of them, weighted like those of P(trinode.platform.http_upstreams#filter).
  - A service without a usable instance has no listener, and no entry on O(_input.tls_port).
  - The source is itself the guard. It emits only fields that it has checked, resolves collisions in a fixed order, and lists whatever it refuses, with
    the reason, in comment lines that begin with C(#!) and hold one JSON object.
extends_documentation_fragment:
  - trinode.platform._edge
seealso:
  - plugin: trinode.platform.http_upstreams
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Let consul-template render the TCP and TLS side of the edge
  ansible.builtin.include_role:
    name: trinode.platform.consul_template
  vars:
    edge:
      domain: apps.hospital.example
      tcp_ports: [5432, 9000-9999]
    consul_template_templates:
      - name: tcp
        contents: "{{ edge | trinode.platform.tcp_upstreams }}"
        destination: /var/lib/nginx-edge/staging/stream.conf
        command: [/usr/local/bin/reload-edge]
"""

RETURN = r"""
_value:
  description: The consul-template source, with a line break at its end.
  type: string
"""

import typing as t

from ..plugin_utils._edge.glue import generate
from ..plugin_utils._edge.tcp import tcp_template


def tcp_upstreams(edge: t.Any) -> str:
    """The filter."""
    return generate("tcp_upstreams", tcp_template, edge)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"tcp_upstreams": tcp_upstreams}
