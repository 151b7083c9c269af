# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects python3, its standard library and what both link to from the build image into one directory: the root of the sample images.

Run inside the build image as root: ``python3 collect.py /rootfs``. Standard library only.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# Parts of the standard library that no service needs: tests, editors, build tools, terminal and database glue.
LEFT_OUT = {
    "__pycache__", "config", "curses", "dbm", "dist-packages", "distutils", "ensurepip", "idlelib", "lib2to3", "msilib", "pydoc_data", "site-packages",
    "sqlite3", "test", "tests", "tkinter", "turtledemo", "unittest", "venv", "wsgiref", "xmlrpc",
}  # fmt: skip
LEFT_OUT_EXTENSIONS = (
    "_codecs_",
    "_curses",
    "_dbm",
    "_gdbm",
    "_lsprof",
    "_sqlite3",
    "_test",
    "_tkinter",
    "_xx",
    "audioop",
    "ossaudiodev",
    "readline",
    "xxlimited",
)
PROGRAMS = ["/usr/bin/getent"]
FILES = ["/etc/nsswitch.conf", "/etc/protocols", "/etc/services", "/etc/ssl/openssl.cnf", "/usr/share/doc/python3/copyright"]


def linked(path: str) -> list[str]:
    """The shared objects that a program or library needs, as the loader finds them."""
    output = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(?:=> )?(/[^ ]+\.so[^ ]*) \(0x", output)


class Root:
    """The directory that becomes the image."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, source: str) -> None:
        """Copy one file to its own place, following links: the image holds each library once, under the name it is asked for."""
        target = self.path / source.lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(os.path.realpath(source), target)

    def add_program(self, source: str) -> None:
        self.add(source)
        for library in linked(source):
            self.add(library)


def wanted(name: str) -> bool:
    return name not in LEFT_OUT and not name.startswith("config-") and not name.startswith(LEFT_OUT_EXTENSIONS)


def main(target: str) -> None:
    root = Root(Path(target))
    root.path.mkdir(parents=True)
    # Debian merges /bin, /sbin and /lib* into /usr; so does the image, or the loader's path would be missing.
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        link = Path("/", name)
        if link.is_symlink():
            (root.path / "usr" / name).mkdir(parents=True, exist_ok=True)
            (root.path / name).symlink_to(os.readlink(link))
    interpreter = os.path.realpath(sys.executable)
    root.add_program(interpreter)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("python3", "python"):
        (root.path / "usr/bin" / name).symlink_to(Path(interpreter).name)
    for program in PROGRAMS:
        root.add_program(program)
    for file in FILES:
        if Path(file).exists():
            root.add(file)

    library = Path(sysconfig.get_path("stdlib"))
    destination = root.path / "usr/lib" / version
    shutil.copytree(library, destination, ignore=lambda _directory, names: [name for name in names if not wanted(name)], ignore_dangling_symlinks=True)
    for extension in destination.glob("lib-dynload/*.so"):
        for needed in linked(str(extension)):
            root.add(needed)
    # Ready-made byte code: a service starts in a fraction of the time and the image stays read-only.
    compileall.compile_dir(destination, quiet=1, stripdir=target, workers=1)

    for name, mode in {"etc": 0o755, "proc": 0o755, "sys": 0o755, "dev": 0o755, "tmp": 0o1777, "app": 0o755}.items():
        directory = root.path / name
        directory.mkdir(exist_ok=True)
        directory.chmod(mode)
    (root.path / "etc/passwd").write_text("root:x:0:0:root:/:/usr/sbin/nologin\nsample:x:10001:10001:sample:/:/usr/sbin/nologin\n")
    (root.path / "etc/group").write_text("root:x:0:\nsample:x:10001:\n")


if __name__ == "__main__":
    main(sys.argv[1])
