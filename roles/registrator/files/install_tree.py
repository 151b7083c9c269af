# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes files on the node equal to those on standard input: one task for the whole package instead of one per file.

Reads {"directories": {path: {"mode": "0755", "group": name}}, "files": {path: {"content": text, "mode": "0644", "group": name}},
"purge": [directory], "remove": [path]}. Everything belongs to root; the group is root where none is named. What lies under a purged
directory and is not among the files is removed. Prints one line per change and never a content; with --check it only prints.
"""

from __future__ import annotations

import grp
import json
import os
import shutil
import stat
import sys
import tempfile


def group_id(entry):
    """The number of an entry's group; None when there is no such group, as on a bare host in check mode."""
    try:
        return grp.getgrnam(entry["group"]).gr_gid if "group" in entry else 0
    except KeyError:
        return None


def belongs(found, entry):
    return stat.S_IMODE(found.st_mode) == int(entry["mode"], 8) and found.st_uid == 0 and found.st_gid == group_id(entry)


def differs(path, entry):
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or not belongs(found, entry):
            return True
        with open(path, "rb") as handle:
            return handle.read() != entry["content"].encode()
    except FileNotFoundError:
        return True


def directory_differs(path, entry):
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return True
    if not stat.S_ISDIR(found.st_mode):
        sys.exit(f"{path} is there and is no directory; move it away and run again")
    return not belongs(found, entry)


def write(path, entry):
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    # The temporary file is for root alone until it has its group.
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(entry["content"].encode())
            os.fchown(target.fileno(), 0, group_id(entry))
            os.fchmod(target.fileno(), int(entry["mode"], 8))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def make_directory(path, entry):
    os.makedirs(path, mode=0o700, exist_ok=True)
    os.chown(path, 0, group_id(entry))
    os.chmod(path, int(entry["mode"], 8))


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def main():
    check = "--check" in sys.argv[1:]
    # The umask of the connection must not make the package unreadable for the service's user.
    os.umask(0o022)
    wanted = json.load(sys.stdin)
    files = wanted.get("files", {})
    for path, entry in sorted(wanted.get("directories", {}).items()):
        if directory_differs(path, entry):
            print("changed " + path)
            if not check:
                make_directory(path, entry)
    for path, entry in sorted(files.items()):
        if differs(path, entry):
            print("changed " + path)
            if not check:
                write(path, entry)
    surplus = [path for path in wanted.get("remove", []) if os.path.lexists(path)]
    for root in wanted.get("purge", []):
        for directory, names, entries in os.walk(root):
            for name in list(names):
                path = os.path.join(directory, name)
                if not any(file.startswith(path + "/") for file in files):
                    names.remove(name)
                    surplus.append(path)
            surplus += [os.path.join(directory, name) for name in entries if os.path.join(directory, name) not in files]
    for path in sorted(surplus):
        print("removed " + path)
        if not check:
            remove(path)


main()
