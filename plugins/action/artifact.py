# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control node's half of the module `artifact`: pushes the archive from a local mirror, only when the node lacks it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ..module_utils._host import artifact
from ..module_utils._host.release_checksums import vouched_checksum
from ..plugin_utils._action.push import push

MODULE = "trinode.platform.artifact"


def local_archive(
    mirror: str,
    product: str,
    version: str,
    archive: str,
    given: Mapping[str, str] | None = None,
) -> tuple[str, str]:
    """Return path and checksum of an archive in a directory, which has been compared with its list and what is given.

    The checksums of the official releases do not count here, because the archive may have been built on this machine.
    """
    directory = os.path.join(mirror, artifact.release_directory(product, version))
    listing = os.path.join(directory, artifact.checksums_name(product, version))
    path = os.path.join(directory, archive)
    try:
        with open(listing, encoding="utf-8", errors="replace") as handle:
            checksum = artifact.expected_checksum(handle.read(), listing, archive)
        artifact.check_archive(path, checksum)
        architecture = archive.rpartition("_")[2].partition(".")[0]
        if given and given.get(architecture):
            vouched_checksum(product, version, architecture, mirror, checksum, given)
    except FileNotFoundError as error:
        raise artifact.ArtifactError(
            f"{error.filename} is missing on the control node; fill the mirror (make artifacts) or correct the mirror's directory"
        ) from error
    except OSError as error:
        raise artifact.ArtifactError(f"{error.filename or path} on the control node cannot be read ({error.strerror}); correct this and run again") from error
    return path, checksum


class ActionModule(ActionBase):
    """Calls the module; a directory on the control node takes a second call, and only when something is missing."""

    TRANSFERS_FILES = True
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Entry point of the action."""
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        host = task_vars.get("inventory_hostname", "this host")
        try:
            result.update(self._run(dict(self._task.args), task_vars))
        except (artifact.ArtifactError, AnsibleError) as error:
            result.update(failed=True, msg=str(error))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        if result.get("failed") and result.get("msg"):
            result["msg"] = f"{host}: {result['msg']}"
        return result

    def _run(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        mirror = str(args.get("mirror") or "")
        for name in ("archive", "checksum"):
            if name in args:
                raise artifact.ArtifactError(f"the argument {name} of {MODULE} is filled in by the action itself; leave it out")
        remote = mirror.startswith(("http://", "https://"))
        if mirror and not remote and not os.path.isabs(mirror):
            raise artifact.ArtifactError(
                f"the mirror {mirror!r} is neither an http:// or https:// URL nor an absolute directory on the control node; correct it"
            )
        answer: dict[str, Any] = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
        archive = answer.pop("needs_archive", None)
        if answer.get("failed") or archive is None:
            return answer
        product, version = str(args["product"]), str(args["version"])
        path, checksum = local_archive(mirror, product, version, archive, args.get("checksums"))
        # In check mode nothing is pushed; that an archive is there is all the module looks at then.
        pushed = path if self._task.check_mode else push(self, path, archive)
        done: dict[str, Any] = self._execute_module(module_name=MODULE, module_args=dict(args, archive=pushed, checksum=checksum), task_vars=task_vars)
        # The type of the answer is said once here: the base class calls it Any.
        return done
