# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Release layout of a mirror, and the installation of one versioned binary from it.

Nothing here imports Ansible: the module, the action plugin and tools/artifacts share it. Runs on nodes, so Python 3.9.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import typing as t
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field

# Directories and programs that every user may enter and execute.
OPEN = 0o755
ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "i386": "386",
    "i586": "386",
    "i686": "386",
    "s390x": "s390x",
}
MANIFEST = ".artifact.json"
INCOMING = ".incoming-"
CHUNK = 1024 * 1024
_PRODUCT = re.compile(r"[a-z0-9][a-z0-9-]*")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*([+-][0-9A-Za-z.+-]+)?")
_SUM_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *]?([^\s/]+)")
# Beside the binary, a release carries its licence; everything else in an archive is left out.
_LICENCES = ("LICENSE", "LICENSE.txt")


class ArtifactError(Exception):
    """One sentence for the operator: what is wrong with which file, and the remedy."""


# --- the layout of a mirror -------------------------------------------------------------------------------------------


def check_names(product: str, version: str) -> None:
    """Refuse names that could leave the mirror's or the installation's directory."""
    if not _PRODUCT.fullmatch(product):
        raise ArtifactError(f"the product name {product!r} is not valid; use lower-case letters, digits and '-', for example 'consul'")
    if not _VERSION.fullmatch(version):
        raise ArtifactError(f"the version {version!r} of {product} is not valid; use the number of a release, for example '1.22.5'")


def go_architecture(machine: str) -> str:
    """Name of a machine's architecture in a release's file names."""
    try:
        return ARCHITECTURES[machine.lower()]
    except KeyError:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ArtifactError(f"the architecture {machine!r} is unknown; releases exist for {known}") from None


def release_directory(product: str, version: str) -> str:
    """Path of a release inside a mirror."""
    return f"{product}/{version}"


def archive_name(product: str, version: str, architecture: str) -> str:
    """File name of a release's archive for Linux."""
    return f"{product}_{version}_linux_{architecture}.zip"


def checksums_name(product: str, version: str) -> str:
    """File name of a release's list of checksums."""
    return f"{product}_{version}_SHA256SUMS"


def parse_checksums(text: str, source: str) -> dict[str, str]:
    """Checksums by file name; `source` names the list in errors."""
    sums: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = _SUM_LINE.fullmatch(line.strip())
        if not match:
            raise ArtifactError(f"line {number} of {source} is not '<sha256>  <file name>'; fetch or make the file again")
        digest, name = match.group(1).lower(), match.group(2)
        if sums.setdefault(name, digest) != digest:
            raise ArtifactError(f"{source} lists {name} twice with different checksums; fetch or make the file again")
    if not sums:
        raise ArtifactError(f"{source} lists no file; fetch or make it again")
    return sums


def expected_checksum(text: str, source: str, archive: str) -> str:
    """Checksum of one archive; an error when the list lacks it."""
    sums = parse_checksums(text, source)
    if archive not in sums:
        raise ArtifactError(f"{source} does not list {archive}; add this version and architecture to the mirror (make artifacts)")
    return sums[archive]


def file_sha256(path: str) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_archive(path: str, expected: str, shown: str | None = None) -> None:
    """Compare an archive with its checksum; `shown` is the name used in the error."""
    found = file_sha256(path)
    if found != expected:
        raise ArtifactError(
            f"the checksum of {shown or path} is wrong: expected {expected}, found {found}; "
            "nothing was changed; delete the file from the mirror and fill the mirror again (make artifacts)"
        )


# --- what is on a node ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """Where one product in one version is installed."""

    product: str
    version: str
    root: str
    link_dir: str

    @property
    def home(self) -> str:
        """Directory of all versions of the product."""
        return os.path.join(self.root, self.product)

    @property
    def directory(self) -> str:
        """Directory of the wanted version."""
        return os.path.join(self.home, self.version)

    @property
    def binary(self) -> str:
        """The wanted version's executable."""
        return os.path.join(self.directory, self.product)

    @property
    def link(self) -> str:
        """The link that others execute."""
        return os.path.join(self.link_dir, self.product)

    def linked(self) -> str | None:
        """What the link points to; None without a link."""
        try:
            return os.readlink(self.link)
        except OSError:
            return None

    def linked_version(self) -> str | None:
        """The version the link selects; None when the link is missing or not ours."""
        target = self.linked()
        if target is None:
            return None
        directory, name = os.path.split(target)
        home, version = os.path.split(directory)
        return version if name == self.product and home == self.home else None


@dataclass
class State:
    """What of a target is right already."""

    usable: bool
    linked: bool
    drifted: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.usable and self.linked and not self.drifted


def _owner() -> tuple[int, int]:
    # As root everything belongs to root:root; tests run as anybody.
    return os.geteuid(), os.getegid()


def inspect(target: Target) -> State:
    """Compare the node with the target; reads the whole binary only when its size or time differ from the record."""
    linked = target.linked() == target.binary
    if not os.path.isdir(target.directory):
        return State(False, linked, reason=f"{target.directory} does not exist")
    try:
        with open(os.path.join(target.directory, MANIFEST), encoding="utf-8") as handle:
            record = json.load(handle)
        status = os.lstat(target.binary)
    except (OSError, ValueError):
        return State(False, linked, reason=f"{target.directory} is incomplete")
    if not isinstance(record, dict) or not stat.S_ISREG(status.st_mode) or status.st_size != record.get("size"):
        return State(False, linked, reason=f"{target.binary} is damaged")
    if status.st_mtime_ns != record.get("mtime_ns") and file_sha256(target.binary) != record.get("sha256"):
        return State(False, linked, reason=f"{target.binary} is damaged")
    drifted = []
    for path in (target.directory, target.binary):
        status = os.lstat(path)
        if (status.st_uid, status.st_gid) != _owner() or stat.S_IMODE(status.st_mode) != OPEN:
            drifted.append(path)
    return State(True, linked, drifted)


# --- changing a node --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def explained(target: Target) -> Iterator[None]:
    """Turn the errors of the operating system into one sentence."""
    try:
        yield
    except OSError as error:
        what = f"{target.product} {target.version} cannot be installed"
        where = error.filename or target.home
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArtifactError(f"{what}: the file system of {where} is full; free space there and run again") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ArtifactError(f"{what}: no permission to write {where}; run as root (become: true)") from error
        if error.errno == errno.EROFS:
            raise ArtifactError(f"{what}: the file system of {where} is read-only; mount it writable and run again") from error
        raise ArtifactError(f"{what}: {where}: {error.strerror or error}; correct this and run again") from error


def make_directory(path: str) -> None:
    """Make a directory that everybody may read; one that is there stays as it is."""
    if not os.path.isdir(path):
        make_directory(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            os.chmod(path, OPEN)


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Hold the directory itself as the lock, so that no lock file stays behind."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def incoming(target: Target) -> Iterator[str]:
    """A private directory beside the versions; what an interrupted run left is removed first. Call it under the lock."""
    for name in os.listdir(target.home):
        if name.startswith(INCOMING):
            shutil.rmtree(os.path.join(target.home, name), ignore_errors=True)
    path = tempfile.mkdtemp(prefix=INCOMING, dir=target.home)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_space(directory: str, needed: int, what: str) -> None:
    """Fail before anything is written when a file system can't take `needed` bytes."""
    status = os.statvfs(directory)
    free = (status.f_bfree if os.geteuid() == 0 else status.f_bavail) * status.f_frsize
    if free < needed:
        raise ArtifactError(
            f"{what} needs {needed // CHUNK + 1} MiB in {directory}, but the file system has only {free // CHUNK} MiB left; free space there and run again"
        )


def unpack(archive: str, target: Target, directory: str, shown: str) -> None:
    """Unpack the binary and its licence into `directory`, checked by the archive's own CRC and written to disk."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            names = bundle.namelist()
            if target.product not in names:
                raise ArtifactError(f"{shown} does not contain the file {target.product} at its top level; fill the mirror again (make artifacts)")
            wanted = [target.product] + [name for name in _LICENCES if name in names]
            require_space(target.home, sum(bundle.getinfo(name).file_size for name in wanted), f"{target.product} {target.version}")
            for name in wanted:
                path = os.path.join(directory, name)
                with bundle.open(name) as source, open(path, "xb") as sink:
                    shutil.copyfileobj(source, sink, CHUNK)
                    sink.flush()
                    os.fsync(sink.fileno())
                os.chmod(path, OPEN if name == target.product else 0o644)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise ArtifactError(f"{shown} is not a usable zip archive ({error}); delete it from the mirror and fill the mirror again (make artifacts)") from error


def shows_version(output: str, version: str) -> bool:
    """Whether a program's output names exactly this version."""
    return re.search(rf"(?<![0-9.]){re.escape(version)}(?![0-9]|\.[0-9])", output) is not None


def unprivileged() -> dict[str, t.Any]:
    """Return the arguments with which a program runs as nobody; none for a caller who is not root."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return {"user": 65534, "group": 65534, "extra_groups": []}
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def check_binary(path: str, target: Target, arguments: list[str], shown: str) -> None:
    """Execute a binary once, as nobody: a wrong architecture or version must not replace a good one."""
    what = f"the {target.product} of {shown}"
    remedy = "the version in use was kept; put the release for this host into the mirror"
    # By its descriptor, because the directories on the way may be closed to nobody.
    handle = os.open(path, os.O_RDONLY)
    try:
        result = subprocess.run(
            [f"/proc/self/fd/{handle}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            cwd="/",
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            pass_fds=(handle,),
            check=False,
            **unprivileged(),
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"{what} did not end within 60 s when called with {' '.join(arguments)!r}; {remedy}") from error
    except OSError as error:
        machine = os.uname().machine
        hint = f"{target.root} may be mounted noexec" if error.errno == errno.EACCES else f"it may be made for another architecture than {machine}"
        raise ArtifactError(f"{what} cannot be executed on this host ({error.strerror}): {hint}; {remedy}") from error
    finally:
        os.close(handle)
    output = result.stdout.decode("utf-8", "replace")
    if result.returncode != 0:
        raise ArtifactError(f"{what} failed with exit status {result.returncode} when called with {' '.join(arguments)!r}: {output.strip()[:300]!r}; {remedy}")
    if not shows_version(output, target.version):
        first = (output.strip().splitlines() or [""])[0]
        raise ArtifactError(f"{what} says {first[:200]!r} instead of version {target.version}; {remedy}")


def put_in_place(archive: str, checksum: str, target: Target, directory: str, arguments: list[str], shown: str) -> None:
    """Verify, unpack and try the archive in `directory`, then make it the version's directory in one step."""
    check_archive(archive, checksum, shown)
    fresh = os.path.join(directory, "version")
    os.mkdir(fresh)
    os.chmod(fresh, OPEN)
    unpack(archive, target, fresh, shown)
    binary = os.path.join(fresh, target.product)
    check_binary(binary, target, arguments, shown)
    status = os.stat(binary)
    record = {"archive": shown, "archive_sha256": checksum, "sha256": file_sha256(binary), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    manifest = os.path.join(fresh, MANIFEST)
    with open(manifest, "x", encoding="utf-8") as handle:
        json.dump(record, handle, indent=2, sort_keys=True)
        handle.write("\n")
        handle.flush()
        os.fsync(handle.fileno())
    os.chmod(manifest, 0o644)
    _sync(fresh)
    if not os.path.isdir(target.directory):
        if os.path.lexists(target.directory):
            raise ArtifactError(f"{target.directory} is there but is no directory; move it away and run again")
        os.rename(fresh, target.directory)
    else:
        # A damaged version may be the one in use: each file is replaced, the manifest last, so the path never misses.
        for name in sorted(os.listdir(fresh), key=lambda item: (item == MANIFEST, item)):
            os.replace(os.path.join(fresh, name), os.path.join(target.directory, name))
        _sync(target.directory)
    _sync(target.home)


def set_link(target: Target) -> str | None:
    """Point the link at the target by a rename. A file that is not ours is kept beside it; its new name is returned."""
    make_directory(target.link_dir)
    if os.path.isdir(target.link) and not os.path.islink(target.link):
        raise ArtifactError(f"{target.link} is a directory; move it away so that the link to {target.binary} can be made")
    kept = None
    if os.path.lexists(target.link) and target.linked_version() is None:
        kept = f"{target.link}.orig"
        if os.path.lexists(kept):
            kept = None  # the first one is the operator's; later ones are of no interest
        else:
            os.link(target.link, kept, follow_symlinks=False)
    temporary = os.path.join(target.link_dir, f".{target.product}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(target.binary, temporary)
    os.replace(temporary, target.link)
    _sync(target.link_dir)
    return kept


def prune(target: Target, previous: str | None) -> list[str]:
    """Remove versions that are neither wanted nor the previous one; only directories with our manifest are touched."""
    removed = []
    for name in sorted(os.listdir(target.home)):
        path = os.path.join(target.home, name)
        if name in (target.version, previous) or name.startswith(".") or not os.path.isfile(os.path.join(path, MANIFEST)):
            continue
        shutil.rmtree(path)
        removed.append(name)
    return removed


def correct_modes(paths: list[str]) -> None:
    """Give drifted paths their owner and mode back."""
    for path in paths:
        os.chown(path, *_owner(), follow_symlinks=False)
        os.chmod(path, OPEN)
