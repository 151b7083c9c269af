# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret of the site, made when there is none yet."""

from __future__ import annotations

DOCUMENTATION = r"""
name: secret
short_description: A secret of the site, made when there is none yet
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Reads a secret that is kept in a file on the control node, and makes it when there is none. Of several hosts that ask at once, all get the same.
  - The file has mode 0600 and, when a vault password is configured, is encrypted with it. A file that is not yet so is put right.
  - In check mode, and in a run with nothing but C(--tags preflight), nothing is written. A secret that does not exist is then another one with each call.
options:
  _terms:
    description: The names of the secrets. The file is called after it, with C(.txt) behind it, because Ansible does not take such a file for an inventory.
    type: list
    elements: str
    required: true
  directory:
    description: The directory of the secrets, an absolute path on the control node.
    type: path
    required: true
  kind:
    description:
      - What to make when there is no such secret. V(uuid) is the form of Consul's tokens, V(key) are 32 random bytes in base64, the form of its gossip key.
      - With V(none) nothing is made, and the result is an empty string.
    type: str
    choices: [uuid, key, none]
    default: none
  begin:
    description:
      - Whether to make the secret even when O(directory) has no secrets of a site yet. The playbooks of this collection set it to V(false), so that
        a run from a machine without the secrets does not give a running cluster new ones. M(trinode.platform.site_secrets) makes the first one.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Show nobody the token
  ansible.builtin.debug:
    msg: "{{ lookup('trinode.platform.secret', 'consul_token_dns', directory=inventory_dir ~ '/secrets', kind='uuid') | length }}"
"""

RETURN = r"""
_raw:
  description: The secrets.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils._preflight.security_rules import only_checks_hosts
from ..plugin_utils._secrets.store import SecretError, loader_store


class LookupModule(LookupBase):
    """Only converts arguments and errors."""

    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        """Entry point of the lookup."""
        self.set_options(var_options=variables, direct=kwargs)
        kind, begin = self.get_option("kind"), self.get_option("begin")
        try:
            known = variables or {}
            dry = bool(known.get("ansible_check_mode")) or only_checks_hosts(known.get("ansible_run_tags") or ())
            store = loader_store(self._loader, self.get_option("directory"), dry)
            return [(store.get(name) or "") if kind == "none" else store.ensure(name, kind, begin) for name in terms]
        except SecretError as error:
            raise AnsibleLookupError(f"trinode.platform.secret: {error}") from error
