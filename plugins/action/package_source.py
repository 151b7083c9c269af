# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control node's half of the module `package_source`: pushes the archive, only when the host lacks it."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ..module_utils._host import package_source
from ..module_utils._host.artifact import ArtifactError, check_archive
from ..module_utils._host.package_source import SourceError
from ..plugin_utils._action.push import push

MODULE = "trinode.platform.package_source"


def checksum_of(archive: str) -> str:
    """The checksum that lies beside an archive."""
    path = f"{archive}.sha256"
    try:
        with open(path, encoding="utf-8") as file:
            return package_source.expected_checksum(file.read(), path)
    except OSError as error:
        raise SourceError(f"{path} on the control node cannot be read ({error.strerror}); make the bundle again (make bundle)") from error


class ActionModule(ActionBase):
    """Calls the module; a host that lacks the archive takes a second call."""

    TRANSFERS_FILES = True
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Entry point of the action."""
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        try:
            result.update(self._run(dict(self._task.args), task_vars))
        except (SourceError, ArtifactError, AnsibleError) as error:
            result.update(failed=True, msg=str(error))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        if result.get("failed") and result.get("msg"):
            result["msg"] = f"{task_vars.get('inventory_hostname', 'this host')}: {result['msg']}"
        return result

    def _run(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        for name in ("pushed", "checksum"):
            if name in args:
                raise SourceError(f"the argument {name} of {MODULE} is filled in by the action itself; leave it out")
        archive = str(args.get("archive") or "")
        if archive and args.get("state", "present") == "present":
            args["checksum"] = checksum_of(archive)
        answer: dict[str, t.Any] = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
        if not answer.pop("needs_archive", False) or answer.get("failed"):
            return answer
        check_archive(archive, args["checksum"])
        # In check mode nothing is pushed.
        args["pushed"] = archive if self._task.check_mode else push(self, archive, os.path.basename(archive))
        done: dict[str, t.Any] = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
        return done
