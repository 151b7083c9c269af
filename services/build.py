#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the sample images and saves them in one archive: ``<mirror>/images/trinode-samples.tar``.

Nothing is done when the archive is already made from the present sources and base image. Beside the archive lies
``trinode-samples.tar.json``: the hash of the sources and the names of the images in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
#: What Docker pulls when no image is named.
BASE = "debian:bookworm-slim"
SOURCES = ("Dockerfile", "app", "image", "musl")


class Image(NamedTuple):
    target: str
    tag: str

    @property
    def name(self) -> str:
        return f"trinode/{self.target}:{self.tag}"


IMAGES = (
    Image("httpbackend", "v1.0.0"),
    Image("httpfront", "v1.0.0"),
    Image("httpfront", "v2.0.0"),
    Image("tcpfront", "v1.0.0"),
    Image("httpsfront", "v1.0.0"),
    Image("resolve-musl", "1"),
)


class BuildError(Exception):
    """One sentence for the user."""


def source_hash(directory: Path, base: str) -> str:
    """A hash over everything that the images are made from: names, modes and contents of the sources, and the base image's id."""
    digest = hashlib.sha256()
    for name in SOURCES:
        root = directory / name
        for path in sorted([root] if root.is_file() else root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(directory)}\0{os.access(path, os.X_OK)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update(f"{base}\0{' '.join(image.name for image in IMAGES)}".encode())
    return digest.hexdigest()[:32]


def is_current(archive: Path, wanted: str) -> bool:
    """Whether the archive is whole and made from the wanted sources."""
    try:
        stamp = json.loads(stamp_path(archive).read_text())
        return bool(stamp["hash"] == wanted and stamp["bytes"] == archive.stat().st_size)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def stamp_path(archive: Path) -> Path:
    return archive.with_name(archive.name + ".json")


def check_archive(path: Path) -> None:
    """A half-written archive must not take the place of a good one: every image has to be in it."""
    try:
        with tarfile.open(path) as archive:
            member = archive.extractfile("manifest.json")
            tags = {tag for entry in json.load(member) for tag in entry.get("RepoTags") or []} if member else set()
    except (OSError, KeyError, ValueError, tarfile.TarError) as exc:
        raise BuildError(f"{path} is not a readable image archive: {exc}") from exc
    missing = [image.name for image in IMAGES if image.name not in tags]
    if missing:
        raise BuildError(f"{path} lacks {', '.join(missing)}")


def docker(*arguments: str, environment: dict[str, str] | None = None, quiet: bool = True) -> str:
    """Run the Docker client; its error becomes ours."""
    result = subprocess.run(["docker", *arguments], capture_output=quiet, text=True, check=False, env={**os.environ, **(environment or {})})
    if result.returncode:
        detail = (result.stderr or result.stdout or "").strip() if quiet else "see above"
        raise BuildError(f"docker {' '.join(arguments[:2])} failed: {detail[-2000:]}")
    return (result.stdout or "").strip()


def build(base: str, archive: Path, force: bool) -> bool:
    """Build and save; return whether something was made."""
    if shutil.which("docker") is None:
        raise BuildError("there is no docker client on this machine; install the package docker.io or docker-cli")
    try:
        base_id = docker("image", "inspect", "--format", "{{.Id}}", base)
    except BuildError:
        docker("pull", "--quiet", base)
        base_id = docker("image", "inspect", "--format", "{{.Id}}", base)
    wanted = source_hash(HERE, base_id)
    if not force and is_current(archive, wanted):
        return False
    # A client without the buildx plugin has only the classic builder.
    has_buildx = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0
    environment = {"DOCKER_BUILDKIT": "1" if has_buildx else "0"}
    for image in IMAGES:
        print(f"samples: building {image.name}", flush=True)
        # fmt: off
        docker(
            "build", "--quiet", "--target", image.target, "--tag", image.name, "--build-arg", f"BASE={base}", "--build-arg", f"VERSION={image.tag}",
            "--build-arg", f"SOURCE_HASH={wanted}", str(HERE), environment=environment,
        )
        # fmt: on
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        docker("save", "--output", str(partial), *[image.name for image in IMAGES])
        check_archive(partial)
        partial.chmod(0o644)
        stamp = {"hash": wanted, "bytes": partial.stat().st_size, "images": [image.name for image in IMAGES]}
        stamp_partial = stamp_path(partial)
        stamp_partial.write_text(json.dumps(stamp, indent=2) + "\n")
        # The stamp goes first: a stop between the two leaves sizes that differ, and the next run builds again.
        os.replace(stamp_partial, stamp_path(archive))
        os.replace(partial, archive)
    finally:
        for leftover in (partial, stamp_path(partial)):
            leftover.unlink(missing_ok=True)
    return True


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Build the sample images and save them into the artifact mirror.")
    parser.add_argument("--base", default=BASE, help="Debian or Ubuntu image that the parts are taken from (default: %(default)s)")
    parser.add_argument(
        "--mirror",
        default=HERE.parent / "artifacts",
        type=Path,
        help="directory of the artifact mirror, in which the archive is images/trinode-samples.tar (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="build even when the archive is current")
    options = parser.parse_args(arguments)
    archive = options.mirror / "images" / "trinode-samples.tar"
    try:
        made = build(options.base, archive, options.force)
    except BuildError as exc:
        print(f"samples: {exc}", file=sys.stderr)
        return 1
    size = archive.stat().st_size / 1e6
    print(f"samples: {archive} {'made' if made else 'is current'} ({size:.0f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
