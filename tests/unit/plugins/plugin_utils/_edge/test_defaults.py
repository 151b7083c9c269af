# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page that compares the edge's defaults with those of others has every default, as it is."""

from __future__ import annotations

import json
import os
import re
import typing as t
from pathlib import Path

import yaml

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.option import Option
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.options import SCHEMA

ROOT = Path(__file__).resolve().parents[5]
PAGE = ROOT / "docs" / "edge_defaults.md"
ROLE = ROOT / "roles" / "nginx"
VARIABLES = ("nginx_worker_connections", "nginx_worker_rlimit_nofile", "nginx_worker_shutdown_timeout")
# A list that is longer is in the guide.
SHOWN = 4


def shown(value: t.Any) -> str:
    """A default as the page has it."""
    if isinstance(value, (list, tuple)):
        return f"{len(value)} entries" if len(value) > SHOWN else f"`{json.dumps(list(value))}`"
    return "see the guide" if value is None else f"`{json.dumps(value)}`"


def options(schema: tuple[Option, ...], prefix: str = "") -> t.Iterator[tuple[str, str]]:
    """Every option that has a default."""
    for option in schema:
        if option.kind == "dict":
            yield from options(option.suboptions, f"{prefix}{option.name}.")
        elif not option.required:
            yield f"{prefix}{option.name}", shown(option.default)


def expected() -> dict[str, str]:
    """Every default of the filters, and those of the role that concern requests."""
    found = dict(options(SCHEMA))
    defaults, constants = (yaml.safe_load((ROLE / place / "main.yml").read_text()) for place in ("defaults", "vars"))
    found.update({name: shown(defaults[name]) for name in VARIABLES})
    found.update({f"nginx_http_options.{name}": shown(value) for name, value in constants["__nginx_http_defaults"].items()})
    return found


ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| ?([^|]*?) ?\|(.*)$", re.MULTILINE)


def test_the_page_has_the_defaults() -> None:
    """GOLDEN_UPDATE=1 writes the second column anew, and new options into the last table. Compare those, and give the reason."""
    defaults = expected()
    text = PAGE.read_text()
    if os.environ.get("GOLDEN_UPDATE"):
        text = ROW.sub(lambda row: f"| `{row[1]}` | {defaults.get(row[1], '?')} |{row[3]}", text)
        known = {row[1] for row in ROW.finditer(text)}
        text += "".join(f"| `{name}` | {default} |\n" for name, default in defaults.items() if name not in known)
        PAGE.write_text(text)
    rows = [(row[1], row[2]) for row in ROW.finditer(text)]
    assert dict(rows) == defaults
    assert len(rows) == len(defaults), "an option is listed twice"


def test_every_comparison_has_four_others_and_a_reason() -> None:
    rows = [row for row in ROW.finditer(PAGE.read_text()) if row[3]]
    assert len(rows) > 30
    for row in rows:
        cells = [cell.strip() for cell in row[3].strip().strip("|").split("|")]
        assert len(cells) == 5 and all(cells), row[0]


def test_one_client_leaves_connections_to_others() -> None:
    """A request or a connection takes four of a worker's while the edge has certificates: client, two ends of a socket, instance."""
    defaults = {option.name: t.cast("int", option.default) for option in SCHEMA if option.name.endswith("_limit")}
    role = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert 4 * (defaults["request_limit"] + defaults["connection_limit"]) <= 0.75 * role["nginx_worker_connections"]
