# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One report of everything that preflight found on all hosts."""

from __future__ import annotations

import dataclasses
import datetime
import os
import typing as t
from collections.abc import Mapping

from ..module_utils._host.ports import parse_nodes, parse_ports
from ..plugin_utils._action.control import ControlAction, fail_once
from ..plugin_utils._certificates.tls import check_certificates, file_reader
from ..plugin_utils._edge.schema import remote_datacenters
from ..plugin_utils._preflight.encrypted_values import without_secrets
from ..plugin_utils._preflight.inventory_rules import Names
from ..plugin_utils._preflight.report import Host, Settings, make_report, sentence
from ..plugin_utils._secrets.git_guard import key_warning, keys_in_git
from ..plugin_utils._secrets.vault import loader_vault

PARTS = ("variables", "facts", "listener", "probe", "stop")
_TEXT = {"type": "str", "default": ""}


class ActionModule(ControlAction):
    """Checks on the control node, and changes nothing."""

    ARGUMENTS: t.ClassVar = {
        "nodes": {"type": "list", "elements": "dict", "required": True},
        "ports": {"type": "list", "elements": "dict", "required": True},
        "hosts": {"type": "list", "elements": "str", "required": True},
        **{part: {"type": "list", "elements": "dict", "required": True} for part in PARTS},
        "datacenter": _TEXT,
        "domain": _TEXT,
        "edge_domain": _TEXT,
        "wan_datacenters": {"type": "list", "elements": "dict", "default": []},
        "prepared_queries": {"type": "list", "elements": "dict", "default": []},
        "wan_faults": {"type": "list", "elements": "dict", "default": []},
        "wan_warnings": {"type": "list", "elements": "dict", "default": []},
        "recursors": {"type": "list", "elements": "str", "default": []},
        "allow_single_server": {"type": "bool", "default": False},
        "platforms": {"type": "dict", "required": True},
        "clock_skew_max": {"type": "float", "default": 5.0},
        "memory_min": {"type": "int", "default": 0},
        "disk_min": {"type": "int", "default": 0},
        "mirror": _TEXT,
        "tolerated": {"type": "list", "elements": "str", "default": []},
        "edge": {"type": "dict", "default": {}},
        "certificates": {"type": "list", "elements": "dict", "default": [], "no_log": True},
        "structured": {"type": "bool", "default": False},
    }

    def answer(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the result of the action."""
        hosts = {name: Host(**{part: _mapping(args[part][number]) for part in PARTS}) for number, name in enumerate(args["hosts"])}
        report = make_report(
            parse_nodes(args["nodes"]),
            parse_ports(args["ports"]),
            hosts,
            Settings(
                names=Names(
                    args["datacenter"],
                    args["domain"],
                    args["edge_domain"],
                    args["recursors"],
                    args["allow_single_server"],
                    others=args["wan_datacenters"],
                    queries=args["prepared_queries"],
                    wan_faults=args["wan_faults"],
                    wan_warnings=args["wan_warnings"],
                    edge_datacenters=remote_datacenters(args["edge"]),
                ),
                platforms=args["platforms"],
                clock_skew_max=args["clock_skew_max"],
                memory_min_mb=args["memory_min"],
                disk_min_mb=args["disk_min"],
                mirror=args["mirror"],
                tolerated=args["tolerated"],
                edge=args["edge"],
                certificates=check_certificates(args["certificates"], file_reader(self._loader), datetime.datetime.now(datetime.timezone.utc)),
            ),
        )
        defined = {name: self.variables["hostvars"].raw_get(name) for name in hosts}
        report.problems = without_secrets(report.problems, defined)
        report.warnings = without_secrets(report.warnings, defined)
        for warning in report.warnings:
            self._display.warning(f"preflight: {warning}")
        keys = [str(one.get("key", "")) for one in args["certificates"]]
        for path in keys_in_git([key for key in keys if os.path.isabs(key)], loader_vault(self._loader).is_encrypted):
            self._display.warning(f"preflight: {key_warning(path)}.")
        text = sentence(report, len(hosts))
        # One line that says what was checked, also without -v.
        result = fail_once(text) if report.problems else {"msg": text, "_ansible_verbose_always": True}
        if args["structured"]:
            result.update(
                problems=[dataclasses.asdict(one) for one in report.problems],
                warned=[dataclasses.asdict(one) for one in report.warnings],
                unchecked=report.unchecked,
                paths=report.paths,
            )
        return {"changed": False, **result}


def _mapping(value: t.Any) -> Mapping[str, t.Any]:
    return value if isinstance(value, Mapping) else {}
