# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check certificates before they go to a host."""

from __future__ import annotations

import datetime
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.trinode.platform.plugins.plugin_utils._tls_certificates import check_certificates, file_reader


class ActionModule(ActionBase):
    """Judges on the control node; needs no connection and changes nothing."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Entry point of the action."""
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        host = task_vars.get("inventory_hostname", "this host")
        _validation, args = self.validate_argument_spec(
            argument_spec={
                "certificates": {
                    "type": "list",
                    "elements": "dict",
                    "required": True,
                    "options": {
                        "name": {"type": "str", "required": True},
                        "host_names": {"type": "list", "elements": "str", "default": []},
                        "certificate": {"type": "str", "required": True},
                        "key": {"type": "str", "required": True, "no_log": True},
                    },
                }
            }
        )
        checked = check_certificates(args["certificates"], file_reader(self._loader), datetime.datetime.now(datetime.timezone.utc))
        for warning in checked.warnings:
            self._display.warning(f"{host}: {warning}")
        result.update(changed=False, expires={name: last.strftime("%Y-%m-%dT%H:%M:%SZ") for name, last in checked.expires.items()})
        if checked.errors:
            result.update(failed=True, msg=f"{host}: " + " ".join(map(str, checked.errors)))
        return result
