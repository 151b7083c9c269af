# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what is secret on the control node out of git. Private to the collection.

The inventory often is a git repository of its own, in which the secrets and the snapshots lie next to the hosts.
"""

from __future__ import annotations

import os
import subprocess
import typing as t

GUARD = ".gitignore"
TEXT = "# git takes nothing of this directory. An empty file instead of this one lets it.\n"
SECONDS = 20


def keep_out_of_git(directory: str, patterns: t.Sequence[str] = ("*",)) -> None:
    """Let git ignore what is in a directory, unless the directory has a .gitignore of its own already."""
    path = os.path.join(directory, GUARD)
    if not os.path.lexists(path):
        # Two runs may be here at once; both write the same.
        with open(path, "w", encoding="utf-8") as target:
            target.write(TEXT + "".join(f"{pattern}\n" for pattern in patterns))


def taken_by_git(directory: str, patterns: t.Sequence[str] = ()) -> list[str]:
    """Return the files of a directory that git has, or would take with `git add`; none where git does not look."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # The repository's own fsmonitor would be a program to run.
    command = ["git", "-c", "core.fsmonitor=false", "-C", directory, "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard", "--", *patterns]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    return sorted({os.fsdecode(name) for name in done.stdout.split(b"\0") if name})


def keys_in_git(paths: t.Iterable[str], is_encrypted: t.Callable[[bytes], bool]) -> list[str]:
    """Return those of the operator's private keys which anyone who gets the git repository can read."""
    return [path for path in sorted(set(paths)) if readable_in_git(os.path.dirname(path), is_encrypted, [os.path.basename(path)])]


def key_warning(path: str) -> str:
    """Return a warning of a private key in git."""
    return (
        f"{path}: git has or would take this private key, which is not encrypted: let git ignore it ('git rm --cached' and"
        " .gitignore), or encrypt it with ansible-vault, and replace it when it was pushed"
    )


def readable_in_git(
    directory: str,
    is_encrypted: t.Callable[[bytes], bool],
    patterns: t.Sequence[str] = (),
) -> list[str]:
    """Return those of the files that git has, or would take, which anyone who gets the repository can read."""
    found = []
    for name in taken_by_git(directory, patterns):
        try:
            with open(os.path.join(directory, name), "rb") as source:
                if not is_encrypted(source.read(100)):
                    found.append(name)
        except OSError:
            # Git still has it, and cannot be asked whether it was encrypted then.
            found.append(name)
    return found
