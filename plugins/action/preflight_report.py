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

from ansible.plugins.action import ActionBase

from ansible_collections.trinode.platform.plugins.module_utils._node_ports import parse_nodes, parse_ports
from ansible_collections.trinode.platform.plugins.plugin_utils._edge import remote_datacenters
from ansible_collections.trinode.platform.plugins.plugin_utils._git_guard import key_warning, keys_in_git
from ansible_collections.trinode.platform.plugins.plugin_utils._inventory_rules import Names
from ansible_collections.trinode.platform.plugins.plugin_utils._preflight_report import Host, Settings, make_report, sentence
from ansible_collections.trinode.platform.plugins.plugin_utils._tls_certificates import check_certificates, file_reader
from ansible_collections.trinode.platform.plugins.plugin_utils._vault import loader_vault

PARTS = ("variables", "facts", "listener", "probe", "stop")


class ActionModule(ActionBase):
    """Judges on the control node; needs no connection and changes nothing."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Entry point of the action."""
        result: dict[str, t.Any] = super().run(tmp, task_vars or {})
        text = {"type": "str", "default": ""}
        _validation, args = self.validate_argument_spec(
            argument_spec={
                "nodes": {"type": "list", "elements": "dict", "required": True},
                "ports": {"type": "list", "elements": "dict", "required": True},
                "hosts": {"type": "list", "elements": "str", "required": True},
                **{part: {"type": "list", "elements": "dict", "required": True} for part in PARTS},
                "datacenter": text,
                "domain": text,
                "edge_domain": text,
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
                "mirror": text,
                "tolerated": {"type": "list", "elements": "str", "default": []},
                "edge": {"type": "dict", "default": {}},
                "certificates": {"type": "list", "elements": "dict", "default": [], "no_log": True},
                "structured": {"type": "bool", "default": False},
            }
        )
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
        for warning in report.warnings:
            self._display.warning(f"preflight: {warning}")
        keys = [str(one.get("key", "")) for one in args["certificates"]]
        for path in keys_in_git([key for key in keys if os.path.isabs(key)], loader_vault(self._loader).is_encrypted):
            self._display.warning(f"preflight: {key_warning(path)}.")
        result.update(changed=False, msg=sentence(report, len(hosts)))
        if args["structured"]:
            result.update(
                problems=[dataclasses.asdict(one) for one in report.problems],
                warned=[dataclasses.asdict(one) for one in report.warnings],
                unchecked=report.unchecked,
                paths=report.paths,
            )
        if report.problems:
            result["failed"] = True
            tell_once(result)
        else:
            # One line that says what has been looked at, also without -v.
            result["_ansible_verbose_always"] = True
        return result


def tell_once(result: dict[str, t.Any]) -> None:
    """Leave the text of a failed result to the line of the error.

    Ansible prints that and the result below it. The error keeps its line breaks whatever format the results have.
    """
    try:
        from ansible.module_utils._internal._messages import ErrorSummary, Event
    except ImportError:
        return
    text = str(result["msg"])
    result["exception"] = ErrorSummary(event=Event(msg=text))
    result["msg"] = f"{text.partition('.')[0]}, as listed."


def _mapping(value: t.Any) -> Mapping[str, t.Any]:
    return value if isinstance(value, Mapping) else {}
