# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes files on the node equal to those on standard input: one task for the whole package instead of one per file.

Reads {"directories": [path], "files": {path: {"content": text, "mode": "0644"}}, "purge": [directory], "remove": [path]}.
What lies under a purged directory and is not among the files is removed. Prints one line per change; with --check it only prints.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile


def differs(path, content, mode):
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) != mode or found.st_uid != 0:
            return True
        with open(path, "rb") as handle:
            return handle.read() != content
    except FileNotFoundError:
        return True


def write(path, content, mode):
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(content)
            os.fchmod(target.fileno(), mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


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
    for path in wanted.get("directories", []):
        if not os.path.isdir(path):
            print("created " + path)
            if not check:
                os.makedirs(path, mode=0o755)
    for path, entry in sorted(files.items()):
        content, mode = entry["content"].encode(), int(entry["mode"], 8)
        if differs(path, content, mode):
            print("changed " + path)
            if not check:
                write(path, content, mode)
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
