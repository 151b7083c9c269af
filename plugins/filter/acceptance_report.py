# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results of an acceptance run as a document, a page and sentences."""

from __future__ import annotations

DOCUMENTATION = r"""
name: acceptance_report
short_description: The verdict on the twelve acceptance checks, as data and as a page
version_added: 1.0.0
author: [Contributors to the trinode.platform project (@trinode)]
description:
  - Takes what P(trinode.platform.acceptance_probe#module) returned on all nodes in all phases, judges what can only be seen across the nodes (whether
    each instance got its share), and gives the verdict on each check.
  - A check fails when one of its steps failed or when nothing of it ran. It is skipped, and does not count as passed, when a step of it was skipped.
options:
  _input:
    description: The results of the probes, as RV(trinode.platform.acceptance_results#filter:_value) gives them.
    type: list
    elements: dict
    required: true
  run:
    description:
      - What is known of the run. C(run_id), C(started) and C(finished) in seconds, C(node_list) with the nodes, C(nodes) with their names,
        C(edge_domain), C(samples), C(disruptive), C(errors) with a text for each node that dropped out, and C(collection) with its version.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Write the page
  ansible.builtin.copy:
    dest: acceptance.html
    content: "{{ (results | trinode.platform.acceptance_report(run)).html }}"
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description:
    - C(document) is the whole run as data, C(html) one self-contained page, C(failures) a sentence for each failed step, C(summary) a few lines
      for a terminal.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ..plugin_utils._acceptance import report

_PHASES = ("prepare", "load", "base", "start", "traffic", "faults", "after", "cleanup")


def acceptance_report(results: t.Any, run: t.Any) -> dict[str, t.Any]:
    """The filter."""
    if not isinstance(results, (list, tuple)):
        raise AnsibleFilterError("trinode.platform.acceptance_report: the input must be a list of the probes' results")
    if not isinstance(run, t.Mapping):
        raise AnsibleFilterError("trinode.platform.acceptance_report: run must be a dictionary")
    try:
        document = report.evaluate(results, run)
    except report.ReportError as error:
        raise AnsibleFilterError(f"trinode.platform.acceptance_report: {error}") from error
    return {"document": document, "html": report.render_html(document), "failures": document["failures"], "summary": report.summary(document)}


def acceptance_results(hosts: t.Any, hostvars: t.Any) -> list[dict[str, t.Any]]:
    """What the probes returned so far on these hosts, in the order of the phases."""
    try:
        found = [hostvars[host].get(f"__acceptance_{phase}") for phase in _PHASES for host in hosts if host in hostvars]
    except (TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"trinode.platform.acceptance_results: needs a list of hosts and Ansible's hostvars: {error}") from error
    return [dict(result) for result in found if isinstance(result, t.Mapping) and "steps" in result and "phase" in result]


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"acceptance_report": acceptance_report, "acceptance_results": acceptance_results}
