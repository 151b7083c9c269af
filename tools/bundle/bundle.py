#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes one tar file from which a whole site without internet is installed.

It holds the commit of this checkout, the binaries and sample images of the artifact mirror, the Python packages of the control node, the distribution's
packages of the hosts, and the checksums of all of it. What an earlier run made is used again, and nothing half-written is left under a final name.
The checksum of the whole file is printed and put next to it, and with a key so is a signature: whoever carries the file
cannot change both.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import io
import json
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import typing as t
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import packages
import sbom
from packages import BundleError

from ansible_collections.trinode.platform.plugins.module_utils._host import artifact

#: Those that ansible-core 2.19 runs with.
PYTHONS = ("3.11", "3.12", "3.13")
#: What a signature is for: one that the same key made for something else does not count.
NAMESPACE = "trinode-platform-bundle"
REQUIREMENTS = ("requirements.txt", "tools/bundle/pip.txt")


def say(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


@contextlib.contextmanager
def only_one(work: Path) -> t.Iterator[None]:
    """One run at a time."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("a", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BundleError("another run makes a bundle here: wait for it") from None
        yield


# --- the Python packages of the control node --------------------------------------------------------------------------


def wheels(directory: Path, pythons: t.Sequence[str], root: Path = ROOT) -> None:
    """The wheels of requirements.txt, for each of the Pythons, compared with its hashes."""
    recipe = f"{' '.join(pythons)}\n" + "".join(f"{packages.sha256(root / name)}  {name}\n" for name in REQUIREMENTS)
    remembered = directory.with_name(f"{directory.name}.recipe")
    if directory.is_dir() and remembered.exists() and remembered.read_text(encoding="utf-8") == recipe:
        say("the Python packages are there")
        return
    new = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    for python in pythons:
        say(f"downloading the Python packages for Python {python}")
        # requirements.txt names everything, so nothing has to be resolved. What a wheel of another Python has already brought is not fetched again.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--python-version", python, "--dest", str(new)]
        command += [word for name in REQUIREMENTS for word in ("--requirement", str(root / name))]
        if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            raise BundleError(f"the Python packages for Python {python} cannot be downloaded: see pip's message above, check the network, and run this again")
    shutil.rmtree(directory, ignore_errors=True)
    new.replace(directory)
    remembered.write_text(recipe, encoding="utf-8")


# --- what goes in -----------------------------------------------------------------------------------------------------


class Checkout(t.NamedTuple):
    """The commit that goes into the bundle."""

    commit: str
    seconds: int
    archive: bytes
    version: str


def git(root: Path, *arguments: str) -> bytes:
    """What git says."""
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True).stdout
    except FileNotFoundError as error:
        raise BundleError("git is missing: install it with 'apt-get install git'") from error
    except subprocess.CalledProcessError as error:
        raise BundleError(f"a bundle is made from a git checkout, and git says: {error.stderr.decode(errors='replace').strip()}") from error


def checkout(root: Path = ROOT) -> Checkout:
    """What is committed."""
    commit, seconds = git(root, "show", "--no-patch", "--format=%H %ct", "HEAD").decode().split()
    if git(root, "status", "--porcelain").strip():
        say(f"note: the bundle is made from the commit {commit[:12]}; what is not committed is not in it")
    return Checkout(commit, int(seconds), git(root, "archive", "HEAD"), str(yaml.safe_load(git(root, "show", "HEAD:galaxy.yml"))["version"]))


def mirror_files(mirror: Path, arch: str, products: str) -> dict[str, Path]:
    """The files of the artifact mirror that a site needs, by their names in it."""
    wanted = []
    for product in json.loads(products)["products"]:
        if product["default"]:
            release = artifact.release_directory(product["name"], product["version"])
            wanted += [f"{release}/{artifact.archive_name(product['name'], product['version'], arch)}"]
            wanted += [f"{release}/{artifact.checksums_name(product['name'], product['version'])}"]
    wanted += ["images/trinode-samples.tar", "images/trinode-samples.tar.json"]
    for name in wanted:
        if not (mirror / name).is_file():
            raise BundleError(f"{mirror / name} is missing: run 'make bundle', which fills the mirror first")
    return {name: mirror / name for name in wanted}


def checksums(members: t.Mapping[str, str]) -> str:
    """The list that sha256sum reads."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(members.items()))


def first_member(bundle: Path, name: str) -> str | None:
    """The text of a tar file's first member when it is the one that is asked for."""
    try:
        with tarfile.open(bundle) as archive:
            member = archive.next()
            if member is None or member.name != name:
                return None
            return t.cast("io.BufferedReader", archive.extractfile(member)).read().decode()
    except (FileNotFoundError, tarfile.TarError):
        return None


def write(target: Path, source: Checkout, files: t.Mapping[str, Path], texts: t.Mapping[str, str]) -> bool:
    """Write the tar file; false when one with the same contents is there.

    Args:
        target: the tar file.
        source: the commit.
        files: further files by their names in the bundle.
        texts: further small files; the program that the commit has for the first step is put to the top by itself.
    """
    top = f"trinode-platform-{source.version}"
    committed = tarfile.open(fileobj=io.BytesIO(source.archive))  # noqa: SIM115 - closed with the bytes
    contents = {member.name: t.cast("io.BufferedReader", committed.extractfile(member)).read() for member in committed if member.isreg()}
    installer = contents["tools/bundle/install"]
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    sums |= {name: packages.sha256(path) for name, path in files.items()}
    sums |= {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    sums["install"] = hashlib.sha256(installer).hexdigest()
    listing = checksums(sums)
    if first_member(target, f"{top}/SHA256SUMS") == listing:
        return False
    part = target.with_name(f".{target.name}.part")

    def add(name: str, content: t.BinaryIO, size: int, mode: int = 0o644) -> None:
        member = tarfile.TarInfo(f"{top}/{name}")
        member.size, member.mode, member.mtime = size, mode, source.seconds
        archive.addfile(member, content)

    try:
        with tarfile.open(part, "w") as archive:
            add("SHA256SUMS", io.BytesIO(listing.encode()), len(listing.encode()))
            add("install", io.BytesIO(installer), len(installer), 0o755)
            for name, text in texts.items():
                add(name, io.BytesIO(text.encode()), len(text.encode()))
            for member in committed:
                # Only the owner may write, whatever git is configured to.
                moved = member.replace(name=f"{top}/{member.name}", mode=member.mode & 0o755, uid=0, gid=0, uname="", gname="", deep=True)
                archive.addfile(moved, io.BytesIO(contents[member.name]) if member.isreg() else None)
            for name, path in sorted(files.items()):
                with path.open("rb") as file:
                    add(name, file, path.stat().st_size)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return True


def put_checksum(target: Path) -> str:
    """Write the checksum of the bundle next to it; returns it."""
    digest = packages.sha256(target)
    target.with_name(f"{target.name}.sha256").write_text(f"{digest}  {target.name}\n", encoding="ascii")
    return digest


def sign(target: Path, key: Path) -> Path:
    """Sign the bundle with an SSH key; the signature lies next to it."""
    signature = target.with_name(f"{target.name}.sig")
    # ssh-keygen asks before it replaces one.
    signature.unlink(missing_ok=True)
    try:
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(target)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BundleError("ssh-keygen is missing: install openssh-client") from error
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split())
        remedy = "name a private key of ssh-keygen, or load it into ssh-agent"
        raise BundleError(f"the bundle cannot be signed with {key}: {reason}: {remedy}") from error
    return signature


def run(options: argparse.Namespace) -> Path:
    """Make what is missing, and the bundle."""
    build: Path = options.build
    work = build / "bundle"
    arch = packages.machine_arch()
    suites = options.suites.split() or [packages.machine_release()[1]]
    pythons = options.pythons.split()
    with only_one(work):
        source = checkout()
        mirror = mirror_files(
            options.mirror, artifact.go_architecture(platform.machine()), (ROOT / "tools/artifacts/products.json").read_text(encoding="utf-8")
        )
        files = {f"artifacts/{name}": path for name, path in mirror.items()}
        for suite in suites:
            archive = packages.make(packages.Target(suite, arch), work / "packages", work / "work", options.update, say)
            for path in (archive, archive.with_name(f"{archive.name}.sha256")):
                files[f"artifacts/packages/{path.name}"] = path
        wheels(work / "wheels", pythons)
        files |= {f"wheels/{path.name}": path for path in (work / "wheels").iterdir()}
        about = {
            "version": source.version,
            "commit": source.commit,
            "machine": platform.machine(),
            "suites": " ".join(suites),
            "python": " ".join(pythons),
        }
        options.output.mkdir(parents=True, exist_ok=True)
        target = options.output / f"trinode-platform-{source.version}-{arch}.tar"
        galaxy = git(ROOT, "show", "HEAD:galaxy.yml").decode()
        texts = {
            "BUNDLE": "".join(f"{key}: {value}\n" for key, value in about.items()),
            sbom.NAME: sbom.make_sbom(source.version, source.commit, source.seconds, galaxy, files),
        }
        made = write(target, source, files, texts)
        digest = put_checksum(target)
        # A signature of an earlier bundle must not lie next to this one.
        signature = target.with_name(f"{target.name}.sig")
        if options.sign_key is not None:
            signature = sign(target, options.sign_key)
        elif made:
            signature.unlink(missing_ok=True)
    say(f"{target}: {target.stat().st_size / 1e6:.0f} MB, for {about['suites']} on {arch}{'' if made else ', as it was'}")
    say(f"SHA-256 {digest}: take it to the closed site by another way than the file, and compare it before you unpack")
    if signature.exists():
        say(f"signature {signature}, to be checked there before you unpack")
    return target


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(description=t.cast(str, __doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--mirror", type=Path, default=ROOT / "artifacts", help="the artifact mirror (default: %(default)s)")
    made.add_argument("--build", type=Path, default=ROOT / "build", help="where the parts of the bundle are kept (default: %(default)s)")
    made.add_argument("--output", type=Path, default=ROOT / "build", help="where the bundle is put (default: %(default)s)")
    made.add_argument("--suites", default="", help="the suites of the hosts, separated by spaces (default: this machine's)")
    made.add_argument("--pythons", default=" ".join(PYTHONS), help="the Pythons that the control node may have (default: %(default)s)")
    made.add_argument("--update", action="store_true", help="look for newer packages of the distribution where an earlier run has left some")
    made.add_argument("--sign-key", type=Path, metavar="FILE", help="sign the bundle with this SSH key (default: none)")
    return made


def main() -> int:
    """Entry point; the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(parser().parse_args())
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing half-written is left", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
