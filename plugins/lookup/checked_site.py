# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of the site's security form, after everything that needs no connection was checked."""

from __future__ import annotations

DOCUMENTATION = r"""
name: checked_site
short_description: The variables of the site's security form, after the inventory was checked
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Returns the file with the variables of the secure or of the open form. It is the only place that decides between the two.
    V(platform_security=open) is open, no value at all is secure, and every other value is an error.
  - Belongs into C(vars_files) of each play. Ansible evaluates these before the first task, whatever C(--tags), C(--skip-tags), C(--limit) and
    C(--start-at-task) leave out, so no run gets past the checks.
  - Checks the inventory's groups, C(--limit), the names, types and values of all variables, the required variables, and that all hosts agree.
  - Refuses variables from outside that replace what the playbooks decide about the protection of the site, variables
    that another playbook gives with C(import_playbook), and options of the command line that leave out a check.
    It ends the run with one numbered list of all problems.
options:
  rules:
    description:
      - Which rules the inventory must keep. V(complete) are all of them. V(running) leaves out those that a site may break while it is repaired,
        such as an even number of servers.
    type: str
    choices: [complete, running]
    default: running
  needs:
    description: Groups without which the playbook has nothing to do.
    type: list
    elements: str
    default: []
  secrets:
    description:
      - Whether the secrets of a secure site must be on this control node. V(needed) requires them, V(made) requires them only when the tags of
        the run leave out what makes them, but not for V(preflight) alone in check mode, and V(none) does not.
    type: str
    choices: [none, made, needed]
    default: none
  limit:
    description: What the playbook does, when the caller must name the hosts for it with C(--limit).
    type: str
  everything:
    description: The extra variable that allows the playbook, when it is true, to run without C(--limit).
    type: str
  confirm:
    description:
      - What the playbook does, when it destroys something. The caller must then name an inventory, and give the name of its datacenter in
        the extra variable C(confirm_datacenter).
    type: str
"""

EXAMPLES = r"""
- name: Name resolution of the hosts
  hosts: consul_servers:consul_clients
  vars_files:
    - vars/platform.yml
    - "{{ lookup('trinode.platform.checked_site') }}"
"""

RETURN = r"""
_raw:
  description: The path of the file.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils._preflight.site_check import Request, checked_file


class LookupModule(LookupBase):
    """Only converts arguments."""

    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        """Entry point of the lookup."""
        if terms:
            raise AnsibleLookupError(f"trinode.platform.checked_site: takes no terms, but got {terms}")
        self.set_options(direct=kwargs)
        request = Request(
            complete=self.get_option("rules") == "complete",
            secrets=self.get_option("secrets"),
            limit=self.get_option("limit") or "",
            everything=self.get_option("everything") or "",
            confirm=self.get_option("confirm") or "",
            needs=tuple(self.get_option("needs")),
        )
        return [checked_file(request, variables or {}, self._templar, self._loader)]
