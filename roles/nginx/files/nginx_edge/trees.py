# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generations on the disk. Each one is a tree of files that nginx can read."""

from __future__ import annotations

import os
import time
from typing import Any

from .config import Config
from .files import read_object, read_text, remove_tree, sync_path, write_file
from .nginxconf import Document, Listener, parse_listen
from .render import CERTIFICATES, READ_BY_NGINX, SIDES
from .report import served

FAILED_KEPT = 5


class Trees:
    """The generations, the live one among them, and the failed candidates."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def path(self, generation: str | None) -> str:
        """Return the directory of a generation."""
        return f"{self.config.state_dir}/trees/{generation or ''}"

    def live(self) -> str | None:
        """Return the generation that the live link names."""
        try:
            return os.path.basename(os.readlink(self.config.live))
        except OSError:
            return None

    def names(self) -> list[str]:
        """Return every generation on the disk."""
        try:
            return sorted(os.listdir(self.path("")))
        except FileNotFoundError:
            return []

    # -- reading -------------------------------------------------------------------------------------------------------

    def text(self, generation: str | None, name: str) -> str:
        """Return the text of a file of a generation; an empty one when it cannot be read."""
        return read_text(f"{self.path(generation)}/{name}") or ""

    def complete(self, generation: str | None) -> bool:
        """Return whether a tree has all that nginx reads."""
        return bool(generation) and all(os.path.isfile(f"{self.path(generation)}/{name}") for name in READ_BY_NGINX)

    def has(self, generation: str, files: dict[str, str]) -> bool:
        """Return whether a tree has these files with these texts."""
        return all(read_text(f"{self.path(generation)}/{name}") == text for name, text in files.items())

    def report(self, generation: str | None) -> dict[str, Any]:
        """Return the report of a generation."""
        return read_object(f"{self.path(generation)}/report.json") if generation else {}

    def staged(self, generation: str | None) -> dict[str, str]:
        """Return the staged text of each side that a generation was made from."""
        return {side: self.text(generation, kept) if generation else "" for side, _, kept in SIDES}

    def services(self, generation: str | None) -> set[str]:
        """Return the services of a generation."""
        return {name for side, text in self.staged(generation).items() if text for name in served(side, text)}

    def sockets(self, generation: str) -> set[Listener]:
        """Return the sockets that a tree needs."""
        found = set()
        for name in READ_BY_NGINX[1:]:
            for directive in Document(self.text(generation, name)).walk():
                if directive.name == "listen":
                    found.update(parse_listen(directive.args))
        return found

    # -- changing ------------------------------------------------------------------------------------------------------

    def build(self, generation: str, files: dict[str, str]) -> str:
        """Write a tree, to which nothing refers yet; return its directory."""
        tree = self.path(generation)
        remove_tree(tree)
        for part in ("", "/main", "/http", "/stream", "/staged"):
            os.makedirs(tree + part, 0o755)
        private = {name for name in files if name.startswith(f"{CERTIFICATES}/")}
        if private:
            os.mkdir(f"{tree}/{CERTIFICATES}", 0o700)
        for name, text in files.items():
            write_file(f"{tree}/{name}", text, sync=False, mode=0o600 if name in private else 0o644)
        return tree

    def sync(self, generation: str) -> None:
        """Flush a tree to the disk before it becomes the live one."""
        tree = self.path(generation)
        for folder in ("main", "http", "stream", CERTIFICATES):
            if os.path.isdir(f"{tree}/{folder}"):
                for name in os.listdir(f"{tree}/{folder}"):
                    sync_path(f"{tree}/{folder}/{name}")
                sync_path(f"{tree}/{folder}")
        sync_path(tree)
        sync_path(self.path(""))

    def remove(self, generation: str) -> None:
        """Remove a tree."""
        remove_tree(self.path(generation))

    def remove_all_but(self, kept: set[str | None]) -> None:
        """Remove all trees but these."""
        for name in self.names():
            if name not in kept:
                self.remove(name)

    # -- failed candidates ---------------------------------------------------------------------------------------------

    def failed(self) -> list[dict[str, str]]:
        """Return the failed candidates that are kept, newest last."""
        folder = f"{self.config.state_dir}/failed"
        paths = [f"{folder}/{name}" for name in sorted(os.listdir(folder))] if os.path.isdir(folder) else []
        return [{"path": path, "reason": (read_text(f"{path}/reason.txt") or "").strip()} for path in paths]

    def keep_failed(self, generation: str, reason: str) -> str:
        """Keep a candidate and the reason for people; the same failure again replaces the older copy."""
        folder = f"{self.config.state_dir}/failed"
        os.makedirs(folder, 0o750, exist_ok=True)
        names = sorted(os.listdir(folder))
        if names and read_text(f"{folder}/{names[-1]}/reason.txt") == reason + "\n":
            remove_tree(f"{folder}/{names.pop()}")
        # Numbered, because a clock may be set back, and then the newest would be taken for the oldest.
        numbers = [int(number) for number in (name.partition("-")[0] for name in names) if number.isdigit()]
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = f"{folder}/{max(numbers, default=0) + 1:06d}-{when}-{generation}"
        # People want to know why it failed, and need no copy of a key for that.
        remove_tree(f"{self.path(generation)}/{CERTIFICATES}")
        os.rename(self.path(generation), target)
        os.chmod(target, 0o750)
        write_file(f"{target}/reason.txt", reason + "\n", sync=False)
        for name in names[: max(0, len(names) + 1 - FAILED_KEPT)]:
            remove_tree(f"{folder}/{name}")
        return target
