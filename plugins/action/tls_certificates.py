# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check certificates before they go to a host."""

from __future__ import annotations

import datetime
import typing as t

from ..plugin_utils._action.control import ControlAction
from ..plugin_utils._certificates.tls import check_certificates, file_reader


class ActionModule(ControlAction):
    """Checks on the control node, and changes nothing."""

    ARGUMENTS: t.ClassVar = {
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

    def answer(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the result of the action."""
        host = self.variables.get("inventory_hostname", "this host")
        checked = check_certificates(args["certificates"], file_reader(self._loader), datetime.datetime.now(datetime.timezone.utc))
        for warning in checked.warnings:
            self._display.warning(f"{host}: {warning}")
        expires = {name: last.strftime("%Y-%m-%dT%H:%M:%SZ") for name, last in checked.expires.items()}
        result: dict[str, t.Any] = {"changed": False, "expires": expires}
        if checked.errors:
            result.update(failed=True, msg=f"{host}: " + " ".join(map(str, checked.errors)))
        return result
