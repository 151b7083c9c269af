# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the other nodes believe a node's certificate, and for how long."""

from __future__ import annotations

DOCUMENTATION = r"""
name: node_certificate
short_description: Whether the other nodes believe a node's certificate, and for how long
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Judges a certificate with its key on the control node, before it goes to the node.
  - Needs the Python library cryptography, which ansible-core itself needs.
positional: key, authority, names
options:
  _input:
    description: The certificate as PEM, followed by those of its issuers. An empty one is a problem and no error.
    type: str
    required: true
  key:
    description: [Its private key as PEM.]
    type: str
    required: true
  authority:
    description: The certificates that the nodes trust, as PEM.
    type: str
    required: true
  names:
    description: [The DNS names and addresses that it has to carry.]
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Require a good certificate
  ansible.builtin.assert:
    that: (certificate | trinode.platform.node_certificate(key, ca, ['server.dc1.consul'])).problems | length == 0
"""

RETURN = r"""
_value:
  description: >-
    Has C(problems), half sentences that are empty when the certificate is good, C(days) until it ends, and C(authority_days) until the first
    of the certificates that the nodes trust does.
  type: dict
"""

import datetime
import typing as t

from ansible.errors import AnsibleFilterError

from ..plugin_utils._certificates.node import judge


def node_certificate(certificate: t.Any, key: t.Any, authority: t.Any, names: t.Any) -> dict[str, t.Any]:
    """Only converts arguments and the result."""
    if not all(isinstance(text, str) for text in (certificate, key, authority)) or not isinstance(names, list):
        raise AnsibleFilterError("trinode.platform.node_certificate: certificate, key and authority are texts, and names is a list")
    return judge(certificate, key, authority, [str(name) for name in names], datetime.datetime.now(datetime.timezone.utc))._asdict()


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """What Ansible looks for."""
        return {"node_certificate": node_certificate}
