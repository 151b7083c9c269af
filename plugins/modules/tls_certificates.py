#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificates
short_description: Check certificates before they go to a host
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Judges certificates with their keys on the control node, so that nothing has been changed when one can't be used.
  - A certificate is refused when it can't be read, when the key does not belong to it or is encrypted, when the chain is out of order, when it has
    expired or is not yet valid, when it does not cover a host name, when it is not meant for servers, or when its key or signature is too weak for OpenSSL.
  - One that expires within 30 days is a warning.
  - Needs the Python library cryptography, which ansible-core itself needs.
options:
  certificates:
    description: [The certificates.]
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What the certificate is called, at most 32 lower-case letters, digits and hyphens.
        type: str
        required: true
      host_names:
        description: The host names that it has to cover, in full. A name such as V(*.apps.example) stands for every name there.
        type: list
        elements: str
        default: []
      certificate:
        description: The certificate, followed by those of its issuers but the root. PEM, or the absolute path of such a file on the control node.
        type: str
        required: true
      key:
        description: The private key. PEM, or the absolute path of such a file on the control node, which may be encrypted by Ansible Vault.
        type: str
        required: true
attributes:
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Check the certificates
  trinode.platform.tls_certificates:
    certificates:
      - name: apps
        host_names: ["*.apps.hospital.example"]
        certificate: "{{ inventory_dir }}/tls/apps.crt"
        key: "{{ inventory_dir }}/secrets/apps.key"
"""

RETURN = r"""
expires:
  description: When each good certificate ends, by its name, in UTC.
  returned: always
  type: dict
  sample: {"apps": "2027-03-01T12:00:00Z"}
"""
