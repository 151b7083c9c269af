# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every role promises, checked for whatever roles there are."""

from __future__ import annotations

import importlib.util
import re
import typing as t
from pathlib import Path

import jinja2
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
ROLES = sorted(path.parent for path in (ROOT / "roles").glob("*/tasks"))
PLATFORMS = {"Debian": {"bullseye", "bookworm", "trixie"}, "Ubuntu": {"jammy", "noble"}}
# Keys of a task that run something else; what is below them is not a module.
TASK_LISTS = ("block", "rescue", "always")
# Files that systemd, apt or a program of ours reads, and that cannot hold a comment.
WITHOUT_COMMENTS = {".json.j2"}


class Loader(yaml.SafeLoader):
    """Reads Ansible's own tags as plain values."""


Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None)


def load(path: Path) -> t.Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def role_parameters() -> list[t.Any]:
    assert ROLES, "no role was found"
    return [pytest.param(role, id=role.name) for role in ROLES]


def specs(role: Path) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", load(role / "meta" / "argument_specs.yml")["argument_specs"])


def defaults(role: Path) -> dict[str, t.Any]:
    path = role / "defaults" / "main.yml"
    return (load(path) or {}) if path.exists() else {}


def texts(role: Path) -> dict[Path, str]:
    """Everything that a role runs or renders."""
    found = [path for folder in ("tasks", "handlers", "templates", "vars", "files") for path in sorted((role / folder).rglob("*")) if path.is_file()]
    return {path: path.read_text(encoding="utf-8", errors="ignore") for path in found if "__pycache__" not in path.parts and ".ruff_cache" not in path.parts}


def task_files(role: Path) -> list[Path]:
    return sorted(path for folder in ("tasks", "handlers") for path in (role / folder).rglob("*.yml"))


def tasks(items: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """All tasks, those in blocks too."""
    for task in items or []:
        yield task
        for key in TASK_LISTS:
            yield from tasks(task.get(key))


role_test = pytest.mark.parametrize("role", role_parameters())


@role_test
def test_every_entry_point_is_specified(role: Path) -> None:
    known = specs(role)
    entries = {path.stem for path in (role / "tasks").glob("*.yml")}
    assert set(known) <= entries, "a specification without a tasks file"
    included = {str(name) for path in task_files(role) for task in tasks(load(path)) for name in included_files(task)}
    assert entries - included <= set(known), "a tasks file that nobody includes is an entry point and needs a specification"
    for entry, spec in known.items():
        for key in ("short_description", "description", "author", "version_added", "options"):
            assert key in spec, f"{entry}: {key} is missing"
        assert not spec["short_description"].endswith("."), f"{entry}: short_description is no sentence"


def included_files(task: dict[str, t.Any]) -> t.Iterator[str]:
    """The stems of the files of the same role that a task includes."""
    for key in ("ansible.builtin.include_tasks", "ansible.builtin.import_tasks"):
        value = task.get(key)
        if value:
            name = str(value.get("file", value.get("_raw_params")) if isinstance(value, dict) else value)
            if "{{" in name:
                # A name that depends on a variable stands for every file.
                yield from (path.stem for path in ROOT.glob("roles/*/tasks/*.yml") if re.fullmatch(re.sub(r"\{\{.*?\}\}", ".*", name), path.name))
            else:
                yield Path(name).stem


@role_test
def test_defaults_are_the_options(role: Path) -> None:
    given = defaults(role)
    known = specs(role)
    options: dict[str, t.Any] = {}
    for spec in known.values():
        options.update(spec.get("options") or {})
    required = {name for name, option in options.items() if option.get("required")}
    assert set(given) - set(options) == set(), "a default that no specification knows"
    assert set(options) - set(given) - required == set(), "an option that is neither required nor has a default in defaults/main.yml"
    if "main" in known and known["main"].get("options"):
        main = set(known["main"]["options"])
        for entry, spec in known.items():
            assert set(spec.get("options") or {}) <= main, f"{entry}: options that main does not know"


@role_test
def test_defaults_are_equal(role: Path) -> None:
    given = defaults(role)
    for entry, spec in specs(role).items():
        for name, option in (spec.get("options") or {}).items():
            computed = "{{" in str(given.get(name))
            if computed:
                assert "default" not in option, f"{entry}: {name} is computed in defaults/main.yml, so its specification must not name a default"
            elif "default" in option or name in given:
                assert option.get("default") == given.get(name), f"{entry}: {name} has two defaults"
                assert type(option.get("default")) is type(given.get(name)), f"{entry}: {name} has defaults of two types"


@role_test
def test_options_are_documented_and_prefixed(role: Path) -> None:
    prefix = f"{role.name}_"
    for entry, spec in specs(role).items():
        for name, option in (spec.get("options") or {}).items():
            assert name.startswith(prefix), f"{entry}: {name} must begin with {prefix}"
            assert "type" in option, f"{entry}: {name} has no type"
            assert option["type"] != "list" or "elements" in option, f"{entry}: {name} has no elements"
            description = option.get("description")
            assert description, f"{entry}: {name} has no description"
            last = description if isinstance(description, str) else description[-1]
            assert str(last).rstrip().endswith((".", ")")), f"{entry}: the description of {name} is no sentence: {last}"


@role_test
def test_internal_names_are_prefixed(role: Path) -> None:
    allowed = (f"__{role.name}_", f"{role.name}_")
    path = role / "vars" / "main.yml"
    names = set(load(path) or {}) if path.exists() else set()
    for file in task_files(role):
        for task in tasks(load(file)):
            names |= {task["register"]} if "register" in task else set()
            names |= {name for name in task.get("ansible.builtin.set_fact", {}) if name != "cacheable"}
    assert [name for name in sorted(names) if not str(name).startswith(allowed)] == []


@role_test
def test_no_option_is_unused(role: Path) -> None:
    everything = "\n".join([*texts(role).values(), (role / "defaults" / "main.yml").read_text(encoding="utf-8")])
    for spec in specs(role).values():
        for name in spec.get("options") or {}:
            # Its own line in defaults/main.yml does not count.
            assert re.search(rf"\b{name}\b(?!\s*:\s)", everything), f"{name} is used nowhere"


@role_test
def test_every_default_has_a_comment(role: Path) -> None:
    path = role / "defaults" / "main.yml"
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    commented = False
    for number, line in enumerate(lines):
        if re.match(r"[a-z_][a-z0-9_]*:", line):
            assert commented, f"{path.relative_to(ROOT)}:{number + 1}: {line.split(':')[0]} has no comment above it"
        if line.startswith("#"):
            commented = True
        elif not line.startswith((" ", "-")):
            commented = False


@role_test
def test_meta(role: Path) -> None:
    meta = load(role / "meta" / "main.yml")
    assert meta["dependencies"] == []
    info = meta["galaxy_info"]
    assert info["author"] and info["description"].endswith(".")
    assert info["license"] == "GPL-3.0-or-later"
    assert info["min_ansible_version"] == "2.19"
    assert {platform["name"]: set(platform["versions"]) for platform in info["platforms"]} == PLATFORMS


@role_test
def test_readme(role: Path) -> None:
    path = role / "README.md"
    assert path.exists(), "README.md is missing: run tools/role_docs.py"
    readme = path.read_text(encoding="utf-8")
    assert re.match(rf"# (trinode\.platform\.)?{role.name}\n", readme)
    module_spec = importlib.util.spec_from_file_location("role_docs", ROOT / "tools" / "role_docs.py")
    assert module_spec and module_spec.loader
    role_docs = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(role_docs)
    assert role_docs.document(role.name, specs(role), readme) == readme, "out of date: run tools/role_docs.py"
    by_hand = readme[: readme.index(role_docs.BEGIN)] + readme[readme.index(role_docs.END) :]
    assert len(by_hand.split()) > 40, "nobody has written what the role does"
    assert "check mode" in by_hand.lower(), "what check mode does is not said"
    # A private role has no tags of its own.
    if not role.name.startswith("_"):
        assert f"`{role.name}`" in readme[readme.index("## Tags") :], "its tasks do not carry the tag of the role"


@role_test
def test_templates(role: Path) -> None:
    environment = jinja2.Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"], autoescape=False)
    for path in sorted((role / "templates").rglob("*.j2")):
        text = path.read_text(encoding="utf-8")
        environment.parse(text)
        if not any(path.name.endswith(suffix) for suffix in WITHOUT_COMMENTS):
            # The first line, or the second where the first is an interpreter or a document type.
            assert "ansible_managed" in "\n".join(text.splitlines()[:2]), f"{path.relative_to(ROOT)} does not begin with ansible_managed"


@role_test
def test_roles_know_no_group_and_no_injected_fact(role: Path) -> None:
    for path, text in [*texts(role).items(), (role / "defaults" / "main.yml", (role / "defaults" / "main.yml").read_text(encoding="utf-8"))]:
        if path.suffix in (".yml", ".j2"):
            code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
            found = re.search(
                r"\b(groups\s*\[|groups\.[a-z]|group_names|ansible_(distribution|os_family|hostname|default_ipv4|architecture|processor\w*)\b)", code
            )
            assert not found, f"{path.relative_to(ROOT)}: {found and found[0]}"


@role_test
def test_tasks_are_honest(role: Path) -> None:
    for path in task_files(role):
        for task in tasks(load(path)):
            where = f"{path.relative_to(ROOT)}: {task.get('name')}"
            assert task.get("name"), f"{where}: a task without a name"
            assert "ignore_errors" not in task, f"{where}: ignore_errors hides what went wrong"


def test_handlers_are_named_once() -> None:
    """All roles of a play share one list of handlers, so a name that two of them use would restart the wrong thing."""
    owners: dict[str, set[str]] = {}
    for role in ROLES:
        for path in sorted((role / "handlers").glob("*.yml")):
            for task in tasks(load(path)):
                topics = task.get("listen", task["name"])
                for topic in [topics] if isinstance(topics, str) else topics:
                    owners.setdefault(topic, set()).add(role.name)
    assert owners
    assert {topic: roles for topic, roles in owners.items() if len(roles) > 1} == {}


@role_test
def test_notifications_have_a_handler(role: Path) -> None:
    """Ansible finds a mistyped one only when the task changes something."""
    known = {topic for path in (role / "handlers").glob("*.yml") for task in tasks(load(path)) for topic in (task["name"], task.get("listen"))}
    for path in task_files(role):
        for task in tasks(load(path)):
            topics = task.get("notify", [])
            for topic in [topics] if isinstance(topics, str) else topics:
                assert topic in known, f"{path.relative_to(ROOT)}: {task['name']} notifies {topic!r}, which no handler of the role hears"


@role_test
def test_tags(role: Path) -> None:
    for path in task_files(role):
        for task in tasks(load(path)):
            tags = task.get("tags", [])
            for tag in [tags] if isinstance(tags, str) else tags:
                assert tag in ("always", "never") or tag == role.name or tag.startswith(f"{role.name}_"), f"{path.relative_to(ROOT)}: tag {tag}"
