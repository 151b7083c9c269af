# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories and files that shall be as they are described: owner, group, mode, content, and nothing beside them. Private to the collection."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import typing as t

from ansible.module_utils.basic import AnsibleModule

from . import hostfile


class PlacementError(Exception):
    """Something cannot be brought to what is wanted; the message names it and the remedy."""


class Place(t.NamedTuple):
    """Where something is to be, whose it is, and who may do what with it."""

    path: str
    owner: str
    group: str
    mode: int

    @classmethod
    def of(cls, options: t.Mapping[str, t.Any]) -> Place:
        """The place that a module's options describe.

        Raises:
            PlacementError: the mode is none.
        """
        try:
            mode = int(options["mode"], 8)
        except ValueError:
            mode = -1
        if not 0 <= mode <= 0o7777:
            raise PlacementError(f'{options["path"]}: the mode is "{options["mode"]}"; write four octal digits, such as "0644"')
        return cls(options["path"], options["owner"], options["group"], mode)

    def ids(self, *, check: bool = False) -> tuple[int, int] | None:
        """User and group as numbers. In check mode None when there is no such one yet, as on a bare host.

        Raises:
            PlacementError: there is no such user or group.
        """
        try:
            return pwd.getpwnam(self.owner).pw_uid, grp.getgrnam(self.group).gr_gid
        except KeyError:
            if check:
                return None
        raise PlacementError(f"{self.path} is for the user {self.owner} and the group {self.group}, and there is none; create them first")

    def belongs(self, found: os.stat_result, ids: tuple[int, int] | None) -> bool:
        """Whether owner, group and mode are right."""
        return stat.S_IMODE(found.st_mode) == self.mode and (found.st_uid, found.st_gid) == ids


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def put_directory(place: Place, *, check: bool = False) -> bool:
    """Make a directory, or put it right; gives whether that was needed.

    Raises:
        PlacementError: something else is there, or its user or group is not.
    """
    ids, found = place.ids(check=check), _lstat(place.path)
    # A link to a directory is the administrator's way to another disk.
    if found is not None and stat.S_ISLNK(found.st_mode) and os.path.isdir(place.path):
        found = os.stat(place.path)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise PlacementError(f"{place.path} is there and is no directory; move it away and run again")
    if found is not None and place.belongs(found, ids):
        return False
    if not check and ids:
        # Nobody else looks into it before it has its owner.
        os.makedirs(place.path, mode=0o700, exist_ok=True)
        os.chown(place.path, *ids)
        os.chmod(place.path, place.mode)
    return True


def text_at(path: str) -> str | None:
    """The text of a regular file, None when there is none."""
    found = _lstat(path)
    return hostfile.read(path).text if found is not None and stat.S_ISREG(found.st_mode) else None


def put_file(place: Place, content: str, *, check: bool = False) -> bool:
    """Write a file as one whole, or put it right; gives whether that was needed. Nobody whom it is not for can read it at any time.

    Raises:
        PlacementError: a directory is there, or its user or group is not.
        OSError: it cannot be written, or its directory is missing.
    """
    ids, found = place.ids(check=check), _lstat(place.path)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise PlacementError(f"{place.path} is there and is a directory; move it away and run again")
    if found is not None and text_at(place.path) == content and place.belongs(found, ids):
        return False
    if not check and ids:
        # A directory that nobody described would be made for everybody to look into.
        os.stat(os.path.dirname(place.path))
        hostfile.write(place.path, hostfile.Entry(text=content, mode=place.mode), ids)
    return True


def leftovers(path: str) -> list[str]:
    """Return what a run that was killed left of a file that it was writing; it may be a former secret."""
    return hostfile.leftovers(path)


def surplus(directories: t.Iterable[str], wanted: t.Collection[str]) -> list[str]:
    """What lies below some directories and is neither wanted nor on the way to something wanted; the top of each such tree."""
    found = []
    for root in directories:
        for directory, names, files in os.walk(root):
            for name in list(names):
                path = os.path.join(directory, name)
                if os.path.islink(path) or not any(one == path or one.startswith(path + "/") for one in wanted):
                    names.remove(name)
                    found.append(path)
            found += [path for path in (os.path.join(directory, name) for name in files) if path not in wanted]
    return sorted(found)


def remove(path: str, *, check: bool = False) -> bool:
    """Remove a file, a link or a whole tree; gives whether something was there."""
    if _lstat(path) is None:
        return False
    if not check:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    return True


def entries(mode: str, **options: t.Any) -> dict[str, t.Any]:
    """The argument of a module that lists directories or files, with what the module adds to an entry."""
    owned = {
        "path": {"type": "path", "required": True},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str", "default": mode},
    }
    return {"type": "list", "elements": "dict", "default": [], "options": {**owned, **options}}


def run(arguments: dict[str, t.Any], bring: t.Callable[[AnsibleModule], dict[str, t.Any]]) -> None:
    """Be a module that brings files to what its arguments describe; ends the process."""
    paths = {"type": "list", "elements": "path", "default": []}
    module = AnsibleModule(argument_spec={**arguments, "purge": paths, "remove": paths}, supports_check_mode=True)
    try:
        module.exit_json(**bring(module))
    except PlacementError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}; see that its directory is there and the disk is not full")
