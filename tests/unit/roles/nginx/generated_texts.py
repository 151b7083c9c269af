# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every line that the generators of the edge can write, for every option: all branches of their templates at once."""

from __future__ import annotations

import importlib.util
import re
import typing as t
from pathlib import Path

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.option import Option
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.options import SCHEMA

# What stands in the output for a value of the catalogue. One that is missing here fails the tests.
SAMPLES = {
    "$certificate": "apps",
    "$label": "shop",
    "$name": "Shop",
    "$pool": ".shared",
    "$port": "8080",
    "$server": "192.0.2.1:8080",
    "$share": "50",
    "$shared": ".shared",
    "$upstream": "tls_shop",
    "divide $by $weight": "3",
}
_SIZE = re.compile(r"multiply 64 \(.*\)")
_SILENT = re.compile(r"(?:if|else|end|range|with|define|template|break|continue|toJSON|regexReplaceAll|scratch\.Set)\b|/\*|\$[a-z_]+ :?= ")
_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_INLINE = re.compile(r"\{\{ if [^}]*\}\}((?:(?!\{\{ (?:if|end)\b).)*)\{\{ end \}\}")
_DEFINE = re.compile(r'\{\{- define "weighted servers" \}\}.*?^(    server .*?;)$.*?(?=\{\{- define )', re.DOTALL | re.MULTILINE)
_WEIGHTED = re.compile(r'\{\{ template "weighted servers" \(sprig_dict "servers" [^"]* "more" "([^"]*)"\) \}\}')


def _value(match: re.Match[str]) -> str:
    action = match.group(1)
    if action in SAMPLES:
        return SAMPLES[action]
    if _SIZE.fullmatch(action):
        return "128"
    assert _SILENT.match(action), f"{{{{ {action} }}}} writes a value: name one in SAMPLES"
    return ""


def _variants(line: str) -> list[str]:
    """Return a line with each branch of the first condition within it, and so on."""
    match = _INLINE.search(line)
    if match is None:
        return [line]
    branches = match.group(1).split("{{ else }}")
    branches = branches if len(branches) > 1 else [*branches, ""]
    return [variant for branch in branches for variant in _variants(line[: match.start()] + branch + line[match.end() :])]


def expanded(source: str) -> str:
    """Return what a source can write: each line of its text once for each of its branches."""
    weighted = _DEFINE.search(source)
    assert weighted is not None
    line = weighted.group(1)
    source = source[: weighted.start()] + source[weighted.end() :]
    source = _WEIGHTED.sub(lambda match: "\n" + line.replace("{{ $.more }}", match.group(1)) + "\n", source)
    lines = [variant for part in source.split("\n") for variant in _variants(part)]
    return _ACTION.sub(_value, "\n".join(lines))


def _cases() -> t.Any:
    """Return the tests of the sources, which have a case for each option."""
    path = Path(__file__).parents[2] / "plugins" / "plugin_utils" / "_edge" / "test_templates.py"
    spec = importlib.util.spec_from_file_location("cases_of_sources", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CASES = _cases()


def _choices(schema: tuple[Option, ...], prefix: str = "") -> t.Iterator[tuple[str, t.Any]]:
    for option in schema:
        if option.kind == "dict":
            yield from _choices(option.suboptions, f"{prefix}{option.name}.")
        for choice in option.choices or ((True, False) if option.kind == "bool" else ()):
            yield prefix + option.name, [choice] if option.kind == "list" else choice


def _with(edge: dict[str, t.Any], option: str, value: t.Any) -> dict[str, t.Any]:
    outer, dot, inner = option.partition(".")
    return {**edge, outer: {**edge.get(outer, {}), inner: value}} if dot else {**edge, outer: value}


def descriptions() -> dict[str, dict[str, t.Any]]:
    """Return edge descriptions: the case of each option, every choice of each, alone and with all that can be switched on."""
    everything = {
        **CASES.FORMS["all"],
        **CASES.FORMS["two data centres"],
        "internal": CASES.FORMS["all"]["internal"],
        "rate_limit": 50,
        "rate_limit_burst": 20,
    }
    found = {f"case {option}": CASES._edges(option)[1] for option in CASES.OPTIONS}
    found.update({f"form {name}": form for name, form in CASES.FORMS.items()}, everything=everything)
    for option, choice in _choices(SCHEMA):
        found[f"{option} {choice}"] = _with(everything, option, choice)
    return found


def texts() -> t.Iterator[tuple[str, str, str]]:
    """Yield (description, side, text) of everything that can be generated, each text once."""
    seen = set()
    for name, edge in descriptions().items():
        for side, generator in (("http", CASES.http_template), ("stream", CASES.tcp_template)):
            source = generator(edge)
            if source not in seen:
                seen.add(source)
                yield (
                    name,
                    side,
                    expanded(source)
                    .replace(CASES.OPTIONS["tls.socket_directory"] + "/", "/run/nginx-edge/tls/")
                    .replace(CASES.OPTIONS["tls.certificate_directory"] + "/", "/etc/nginx-edge/tls/"),
                )
