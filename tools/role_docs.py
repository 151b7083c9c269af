#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the part between the markers of each role's README.md from its meta/argument_specs.yml.

With --check nothing is written, and the exit status is 1 when a README is not what it would become.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- BEGIN ARGUMENT SPECS -->"
END = "<!-- END ARGUMENT SPECS -->"
NAMESPACE = "trinode.platform"

# The semantic markup of Ansible's documentation: O(option), V(value), C(code), M(module), U(url), L(text,url), P(plugin#type), B(bold), I(italic).
MARKUP = re.compile(r"\b(?P<kind>[BCEILMOPRUV]|RV)\((?P<text>(?:[^()\\]|\\.)*)\)")


def plain(text: str) -> str:
    """Turn semantic markup into Markdown."""

    def replace(match: re.Match[str]) -> str:
        kind, inner = match["kind"], re.sub(r"\\(.)", r"\1", match["text"])
        if kind == "B":
            return f"**{inner}**"
        if kind == "I":
            return f"*{inner}*"
        if kind in ("L", "R"):
            label, _, url = inner.rpartition(",")
            return f"[{label.strip()}]({url.strip()})" if kind == "L" else label
        if kind == "U":
            return f"<{inner}>"
        if kind == "P":
            inner = inner.partition("#")[0]
        return f"`{inner}`"

    return MARKUP.sub(replace, text)


def sentences(description: t.Any) -> list[str]:
    """A description is a string or a list of them."""
    return [plain(str(line).strip()) for line in ([description] if isinstance(description, str) else description or [])]


def cell(text: str) -> str:
    """A table cell is one line without bars."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def type_of(option: dict[str, t.Any]) -> str:
    """``list of dict`` and the like."""
    kind = option.get("type", "str")
    return f"{kind} of {option['elements']}" if "elements" in option else kind


def default_of(option: dict[str, t.Any]) -> str:
    """The default, or that there has to be a value."""
    if option.get("required"):
        return "**required**"
    if "default" not in option:
        return ""
    return f"`{json.dumps(option['default'], ensure_ascii=False)}`"


def rows(options: dict[str, t.Any], prefix: str = "") -> t.Iterator[str]:
    """One line for each option, the parts of a dictionary below it."""
    for name, option in options.items():
        text = " ".join(sentences(option.get("description")))
        if "choices" in option:
            text += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        yield f"| `{prefix}{name}` | {type_of(option)} | {cell(default_of(option))} | {cell(text)} |"
        if "options" in option:
            yield from rows(option["options"], f"{prefix}{name}{'[]' if option.get('type') == 'list' else ''}.")


def tags_of(role: str) -> list[str]:
    """The tags that the role's tasks carry, and that its name is one, because the playbooks give it to the whole role."""
    found = {role} if not role.startswith("_") else set()
    for path in (ROOT / "roles" / role / "tasks").glob("*.yml"):
        for match in re.finditer(r"\btags: (\[[^\]]*\]|\w+)", path.read_text(encoding="utf-8")):
            found.update(re.findall(r"\w+", match[1]))
    return sorted(found - {"always"})


def generated(role: str, specs: dict[str, t.Any]) -> str:
    """The text between the markers."""
    lines = [
        BEGIN,
        f"<!-- Made from meta/argument_specs.yml by tools/role_docs.py. The same text: ansible-doc -t role {NAMESPACE}.{role} -->",
        "",
        "## Arguments",
        "",
    ]
    seen: dict[str, str] = {}
    for entry, spec in specs.items():
        lines += [f"### Entry point `{entry}`", "", f"{spec.get('short_description', '').rstrip('.')}.", ""]
        lines += [line for sentence in sentences(spec.get("description")) for line in (f"- {sentence}",)]
        options = spec.get("options") or {}
        table = "\n".join(rows(options))
        if not options:
            lines += ["", "It takes no arguments."]
        elif table in seen:
            lines += ["", f"Its arguments are those of `{seen[table]}`."]
        else:
            seen[table] = entry
            lines += ["", "| name | type | default | what |", "|---|---|---|---|", table]
        lines.append("")
    tags = tags_of(role)
    if tags:
        lines += ["## Tags", "", ", ".join(f"`{tag}`" for tag in tags), ""]
    return "\n".join([*lines, END])


def document(role: str, specs: dict[str, t.Any], readme: str) -> str:
    """The whole README with its generated part renewed. A README without markers gets them at its end."""
    if not readme.strip():
        spec = specs.get("main") or next(iter(specs.values()))
        readme = f"# {role}\n\n" + "\n".join(sentences(spec.get("description"))) + "\n"
    new = generated(role, specs)
    if (readme.count(BEGIN), readme.count(END)) == (1, 1) and readme.index(BEGIN) < readme.index(END):
        return readme[: readme.index(BEGIN)] + new + readme[readme.index(END) + len(END) :]
    if BEGIN in readme or END in readme:
        raise ValueError(f"roles/{role}/README.md: the markers must be there once each, in order; repair them or remove both")
    return f"{readme.rstrip()}\n\n{new}\n"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=t.cast(str, __doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and say what is out of date")
    parser.add_argument("role", nargs="*", help="only these roles")
    arguments = parser.parse_args()
    outdated = False
    for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        role = path.parent.parent.name
        if arguments.role and role not in arguments.role:
            continue
        readme = path.parent.parent / "README.md"
        before = readme.read_text(encoding="utf-8") if readme.exists() else ""
        after = document(role, yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"], before)
        if after == before:
            continue
        outdated = True
        if arguments.check:
            name = str(readme.relative_to(ROOT))
            sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), after.splitlines(True), name, f"{name} (as its arguments say)", n=1))
        else:
            readme.write_text(after, encoding="utf-8")
            print(f"wrote {readme.relative_to(ROOT)}")
    if arguments.check and outdated:
        print("run tools/role_docs.py")
    return 1 if arguments.check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
