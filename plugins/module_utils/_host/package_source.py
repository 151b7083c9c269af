# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package source that came to a host as one archive. Private to the collection.

Nothing here imports Ansible: the module, the action plugin and tools/bundle share it. Runs on nodes, so Python 3.9.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import typing as t

#: What the archive's Release file calls it; the preferences of a host name it.
LABEL = "trinode-packages"
DEFAULT_DIRECTORY = "/var/lib/trinode/packages"
#: Every archive has one, and it is unpacked last.
RELEASE = "Release"
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "armhf", "i686": "i386", "s390x": "s390x"}
INCOMING = ".incoming"

_MEMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]*")
_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S+)\s*")


class SourceError(Exception):
    """One sentence for the operator: what is wrong, and the remedy."""


def architecture(machine: str) -> str:
    """The distribution's name of an architecture that the kernel names."""
    return ARCHITECTURES.get(machine, machine)


def archive_name(suite: str, arch: str) -> str:
    """The name of a suite's archive in the mirror."""
    return f"{suite}_{arch}.tar"


def expected_checksum(text: str, path: str) -> str:
    """The checksum in the file beside an archive."""
    match = _SUM_LINE.fullmatch(text)
    if not match:
        raise SourceError(f"{path} is not '<sha256>  <file name>'; make the bundle again (make bundle)")
    return match[1]


def identity(checksum: str) -> str:
    """The name of the directory that an archive is unpacked into."""
    return checksum[:16]


def source_line(directory: str) -> str:
    """The source.

    Nobody has signed the archive: it came from the control node, by SSH, and its checksum was compared, so it is as trustworthy as everything else that
    the control node writes here as root; files that only root can change need no signature. Its date does not count, because a closed site's clock may be off.
    """
    return f"deb [trusted=yes check-date=no check-valid-until=no] file:{directory} ./\n"


def source_text(header: str, directory: str) -> str:
    """The file in sources.list.d."""
    return f"{header}{source_line(directory)}"


def preferences_text(header: str, priority: int) -> str:
    """The file in preferences.d."""
    return f"{header}Package: *\nPin: release l={LABEL}\nPin-Priority: {priority}\n"


def lists_of(lists: str, directory: str) -> list[str]:
    """The lists that apt has of sources in the directory, whichever archive they are of."""
    prefix = directory.replace("_", "%5f").replace("/", "_") + "_"
    try:
        return sorted(os.path.join(lists, name) for name in os.listdir(lists) if name.startswith(prefix))
    except FileNotFoundError:
        return []


def update_command(source_file: str) -> list[str]:
    """apt-get update for this source alone: the others may be out of reach, and their lists stay."""
    settings = {
        "Dir::Etc::sourcelist": source_file,
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Get::List-Cleanup": "false",
        "APT::Update::Error-Mode": "any",
    }
    return ["apt-get", "--quiet", "--quiet", *(word for key, value in settings.items() for word in ("--option", f"{key}={value}")), "update"]


def make_directory(path: str) -> None:
    """Make a directory and those above it so that apt, which reads as a user of its own, may enter them whatever the umask is."""
    if not os.path.isdir(path):
        make_directory(os.path.dirname(path))
        os.mkdir(path)
        os.chmod(path, 0o755)


def unpack(archive: str, directory: str) -> None:
    """Unpack a flat archive into a directory that is there as a whole or not at all."""
    parent = os.path.dirname(directory)
    make_directory(parent)
    incoming = os.path.join(parent, INCOMING)
    shutil.rmtree(incoming, ignore_errors=True)
    make_directory(incoming)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.isreg() or not _MEMBER.fullmatch(member.name):
                    raise SourceError(f"{os.path.basename(archive)} holds {member.name!r}, which is no file of a package source; make the bundle again")
                path = os.path.join(incoming, member.name)
                with t.cast(t.IO[bytes], tar.extractfile(member)) as content, open(path, "xb") as file:
                    shutil.copyfileobj(content, file, 1024 * 1024)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(path, 0o644)
        if not os.path.exists(os.path.join(incoming, RELEASE)):
            raise SourceError(f"{os.path.basename(archive)} holds no {RELEASE}; make the bundle again")
        os.replace(incoming, directory)
    except tarfile.TarError as error:
        raise SourceError(f"{os.path.basename(archive)} is no whole tar file ({error}); make the bundle again") from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def others(directory: str, kept: str) -> list[str]:
    """What else lies beside the archive that is used."""
    try:
        return sorted(os.path.join(directory, name) for name in os.listdir(directory) if name != kept)
    except FileNotFoundError:
        return []
