# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a file of the control node into an action's own directory on the host. Private to the collection."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleError

if t.TYPE_CHECKING:
    from ansible.plugins.action import ActionBase


def push(action: ActionBase, path: str, name: str) -> str:
    """Where the file is on the host, for as long as the action runs; raises ``AnsibleError`` with the remedy."""
    shell = action._connection._shell
    if not shell.tmpdir:
        action._make_tmp_path()
    remote = str(shell.join_path(shell.tmpdir, name))
    try:
        action._transfer_file(path, remote)
        action._fixup_perms2((shell.tmpdir, remote), execute=False)
    except AnsibleError as error:
        raise AnsibleError(
            f"{path} cannot be copied to {remote} ({error}); check that the file system of that directory has room for it, and run again"
        ) from error
    return remote
