#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write CHANGELOG.md and changelogs/changelog.yaml from all fragments, for the version in galaxy.yml.

With --check, nothing is written, and the exit status is 1 when one of the two is not what the fragments and plugins
say.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
RECORD = "changelogs/changelog.yaml"
PAGES = ("CHANGELOG.md", RECORD)
#: What the changelog is made from: the fragments, and the plugins, modules and roles that are new.
SOURCES = ("galaxy.yml", "changelogs", "meta", "plugins", "roles", "playbooks")
DIFF_LINES = 40


class ChangelogError(Exception):
    """One sentence for the user."""


def forget(record: Path, version: str) -> str | None:
    """Remove a version from the record, so that it is made again from all fragments; return its date."""
    text = yaml.safe_load(record.read_text(encoding="utf-8")) if record.exists() else {"ancestor": None}
    former = (text.setdefault("releases", {}) or {}).pop(version, {})
    record.write_text(yaml.safe_dump(text), encoding="utf-8")
    date = former.get("release_date")
    return None if date is None else str(date)


def generate(root: Path, date: str | None = None) -> dict[str, str]:
    """Return the text of both files, made in a copy of the sources.

    Args:
        root: the checkout.
        date: the date of the version; the date on record when not given, today's for a new version.
    """
    with tempfile.TemporaryDirectory(prefix="trinode-changelog.") as place:
        copy = Path(place, "ansible_collections", "trinode", "platform")
        for name in SOURCES:
            source, target = root / name, copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".plugin-cache.yaml"))
            elif source.exists():
                shutil.copy(source, target)
        version = yaml.safe_load((copy / "galaxy.yml").read_text(encoding="utf-8"))["version"]
        on_record = forget(copy / RECORD, version)
        # antsibull-changelog lists the files that git knows or would take.
        subprocess.run(["git", "init", "--quiet", str(copy)], check=True)
        command = ["antsibull-changelog", "release", "--reload-plugins"]
        if date or on_record:
            command += ["--date", str(date or on_record)]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        done = subprocess.run(
            command,
            cwd=copy,
            env={**os.environ, "PATH": path, "ANSIBLE_COLLECTIONS_PATH": place},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            raise ChangelogError(f"changelogs/fragments: antsibull-changelog says: {said}")
        return {name: (copy / name).read_text(encoding="utf-8") for name in PAGES}


def stale(root: Path, pages: t.Mapping[str, str]) -> list[str]:
    """Return the differences between the files of a checkout and what they must be."""
    found = []
    for name, wanted in pages.items():
        path = root / name
        present = path.read_text(encoding="utf-8") if path.exists() else ""
        names = (name, f"{name}, generated")
        found += difflib.unified_diff(present.splitlines(), wanted.splitlines(), *names, lineterm="", n=0)
    return found


def main(arguments: t.Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(description=t.cast(str, __doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    parser.add_argument("--date", help="date of the version, as in 2026-11-25 (default: the one on record, or today)")
    options = parser.parse_args(arguments)
    try:
        pages = generate(root, options.date)
    except ChangelogError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    difference = stale(root, pages)
    if options.check and difference:
        print("\n".join(difference[:DIFF_LINES]))
        print(
            f"error: {' and '.join(PAGES)} are stale ({len(difference)} lines differ): run 'make changelog'",
            file=sys.stderr,
        )
        return 1
    if not options.check:
        for name, text in pages.items():
            (root / name).write_text(text, encoding="utf-8")
        print(f"{' and '.join(PAGES)}: {'written' if difference else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
