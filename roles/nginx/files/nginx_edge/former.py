# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that the site replaced or withdrew: earlier generations keep the present one of a name, or none."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .certificate import expiry
from .files import read_object, read_text, replace_file, sync_path, write_file
from .journal import log
from .render import CERTIFICATES
from .report import as_lines
from .trees import Trees

# Next to what nginx reads of a generation: certificates that are no longer those it was made with.
MARKS = "former.json"
REPLACED, WITHDRAWN = "replaced", "withdrawn"


def _files(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def marks(tree: str) -> dict[str, str]:
    """Return what became of the certificates of a generation since it was made, by name."""
    return {str(name): str(what) for name, what in read_object(f"{tree}/{MARKS}").items()}


def _ends(report: dict[str, Any]) -> dict[str, Any]:
    ends = report.get("certificates")
    return ends if isinstance(ends, dict) else {}


def lost(tree: str) -> list[str]:
    """Return the certificates that a generation needs and does not have."""
    needed = _ends(read_object(f"{tree}/report.json"))
    return [name for name in sorted(needed) if not os.path.isfile(f"{tree}/{CERTIFICATES}/{name}.pem")]


def usable(path: str) -> bool:
    """Return whether a file has a certificate with its key."""
    import ssl

    try:
        # Without a password, OpenSSL would ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password="")
    except (OSError, ValueError):
        return False
    return True


class Present:
    """The certificates of the site as they are now: those that are given, and those that the live generation has."""

    def __init__(self, trees: Trees) -> None:
        self.given, self.live = trees.config.places.certificates, trees.path(trees.live())

    def replaced(self, file: str) -> bool:
        """Return whether the site has another one than the live generation, which could take it."""
        given, held = read_text(f"{self.given}/{file}"), read_text(f"{self.live}/{CERTIFICATES}/{file}")
        return given is not None and given != held and usable(f"{self.given}/{file}")

    def text(self, file: str) -> str | None:
        """Return the given certificate; or the live one, while that is better or still needed; or nothing."""
        given, held = read_text(f"{self.given}/{file}"), read_text(f"{self.live}/{CERTIFICATES}/{file}")
        if given is None or held in (None, given):
            return held if given is None else given
        return given if usable(f"{self.given}/{file}") else held

    def waiting(self) -> dict[str, str]:
        """Return the certificates whose former key the live generation has, each with the reason."""
        found = {}
        for file in sorted(_files(f"{self.live}/{CERTIFICATES}")):
            if not os.path.lexists(f"{self.given}/{file}"):
                found[file.removesuffix(".pem")] = WITHDRAWN
            elif self.replaced(file):
                found[file.removesuffix(".pem")] = REPLACED
        return found


def stale(tree: str, present: Callable[[str], str | None]) -> list[str]:
    """Return the files with keys in a generation that are not the present ones."""
    folder = f"{tree}/{CERTIFICATES}"
    texts = {file: present(file) for file in sorted(_files(folder))}
    return [file for file, text in texts.items() if text is None or read_text(f"{folder}/{file}") != text]


def refresh(tree: str, present: Callable[[str], str | None]) -> None:
    """Leave none but present keys in a generation that is not live."""
    folder, report = f"{tree}/{CERTIFICATES}", read_object(f"{tree}/report.json")
    ends = _ends(report)
    former = stale(tree, present)
    files = sorted({*former, *(f"{name}.pem" for name in ends if not os.path.isfile(f"{folder}/{name}.pem"))})
    texts = {file: present(file) for file in files}
    if not former and not any(texts.values()):
        return
    now = {file.removesuffix(".pem"): REPLACED if text else WITHDRAWN for file, text in texts.items()}
    # Keys first: a full disk keeps none.
    for file in former:
        os.unlink(f"{folder}/{file}")
    if former:
        sync_path(folder)
    replace_file(f"{tree}/{MARKS}", as_lines({**marks(tree), **now}))
    for file, text in texts.items():
        if text:
            os.makedirs(folder, 0o700, exist_ok=True)
            write_file(f"{folder}/{file}", text, mode=0o600)
            ends[file.removesuffix(".pem")] = expiry(text)
    if ends and any(texts.values()):
        # What is reported of this generation has the day on which they end.
        replace_file(f"{tree}/report.json", as_lines(report))


def forget(trees: Trees) -> None:
    """Keep no key that the site replaced or withdrew, except in the live generation while that needs it."""
    live, present = trees.live(), Present(trees)
    for generation in trees.names():
        try:
            if generation != live:
                refresh(trees.path(generation), present.text)
        except OSError as error:
            why = f"{error.filename or trees.path(generation)}: {error.strerror}"
            advice = f"a former key may still be in generation {generation}; the next run removes it"
            log("failed", f"{why}: {advice}")


def sentences(trees: Trees) -> list[str]:
    """Return sentences about replaced and withdrawn certificates that a generation needs or has."""
    live, present = trees.live(), Present(trees)
    advice = {
        WITHDRAWN: "was withdrawn and is still served, because what is staged names it: take it out of platform_edge",
        REPLACED: "was replaced and the former one is still served: run nginx-edge-apply --strict",
    }
    found = [f"certificate {name} {advice[what]}" for name, what in present.waiting().items()]
    for generation in trees.names():
        tree = trees.path(generation)
        if generation == live:
            continue
        missing, kept = ", ".join(lost(tree)), ", ".join(stale(tree, present.text))
        if missing:
            found.append(f"generation {generation} cannot be gone back to: certificate {missing} was withdrawn")
        if kept:
            found.append(f"generation {generation} still has a former key in {kept}: run nginx-edge-apply --strict")
    return found


def changed(old: str, new: str) -> list[str]:
    """Return lines about the certificates in which two generations differ; what they hold stays private."""
    found: dict[str, list[str | None]] = {}
    for side, tree in enumerate((old, new)):
        for file in _files(f"{tree}/{CERTIFICATES}"):
            found.setdefault(file.removesuffix(".pem"), [None, None])[side] = read_text(f"{tree}/{CERTIFICATES}/{file}")
    words = {(True, False): "added", (False, True): "removed"}
    lines = {name: words.get((one is None, two is None), "changed") for name, (one, two) in found.items() if one != two}
    for tree in (old, new):
        for name, what in marks(tree).items():
            rest = "has the present one now" if what == REPLACED else "has none any more, and cannot be gone back to"
            lines[name] = f"{what} since generation {os.path.basename(tree)}, which {rest}"
    return [f"certificate {name}: {what}\n" for name, what in sorted(lines.items())]
