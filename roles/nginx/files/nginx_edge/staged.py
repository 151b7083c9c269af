# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is staged: read it and parse it."""

from __future__ import annotations

import os

from .allowed import objections
from .config import Config
from .errors import ApplyError
from .files import read_staged, read_text, refuse_links
from .nginxconf import ConfigError, Document, certificates
from .render import CERTIFICATES, SIDES, Source, Wanted


def source(config: Config) -> Source:
    """Return what is staged. The text of a missing file is that of the live generation."""
    texts = []
    folder = f"{config.state_dir}/staging"
    refuse_links(folder)
    for _, name, kept in SIDES:
        text = read_staged(folder, name, config.max_staged_bytes)
        if text is None:
            text = read_text(f"{config.live}/{kept}") or ""
        texts.append(text)
    return source_with(config, *texts)


def source_with(config: Config, http: str, stream: str) -> Source:
    """Return the source with these staged texts."""
    return Source(http, stream, *base(config), _given_certificates(config))


def base(config: Config) -> tuple[str, str]:
    """Return the site's own part: (http, main)."""
    http, main = (read_text(f"{config.base_dir}/{name}") for name in ("http.conf", "main.conf"))
    if http is None or main is None:
        reason = f"{config.base_dir}/http.conf or main.conf is missing; run the site playbook again"
        raise ApplyError("platform", reason)
    return http, main


def _given_certificates(config: Config) -> dict[str, str]:
    """Return the site's certificates by file name. A withdrawn one stays as long as the live generation has it."""
    found: dict[str, str] = {}
    for folder in (f"{config.live}/{CERTIFICATES}", config.places.certificates):
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            text = read_text(f"{folder}/{name}") if name.endswith(".pem") else None
            if text is not None:
                found[name] = text
    return found


def parse(config: Config, texts: Source) -> Wanted:
    """Parse the texts and check the staged ones."""
    http = _document(config, texts, "http", texts.http)
    stream = _document(config, texts, "stream", texts.stream)
    return Wanted(texts, http, stream, _parse("/etc/nginx-edge/http.conf", texts.base_http, "platform"))


def _parse(label: str, text: str, blame: str) -> Document:
    try:
        return Document(text)
    except ConfigError as error:
        raise ApplyError(blame, f"{label}, line {error.place}: {error}") from error


def _document(config: Config, texts: Source, side: str, text: str) -> Document:
    """Parse and check one side."""
    label = f"staged {side}.conf"
    document = _parse(label, text, "staged")
    for line, reason in [*objections(document, side, config.places), *_missing(config, document, texts)]:
        subject = document.subject_at(line)
        raise ApplyError("staged", f"{label}, line {line}{f' ({subject})' if subject else ''}: {reason}")
    return document


def _missing(config: Config, document: Document, texts: Source) -> list[tuple[int, str]]:
    """Return the certificates that a side names and the site does not have: (line, reason)."""
    places = config.places
    advice = "add it to nginx_tls_certificates and run the site playbook, or take it out of the edge description"
    return [
        (line, f"there is no certificate {places.certificates}/{name}; {advice}")
        for name, line in certificates(document, places).items()
        if name not in texts.certificates
    ]
