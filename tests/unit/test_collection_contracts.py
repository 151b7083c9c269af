# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the whole checkout promises: documents, licences, links, and what must not be in any file."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import os
import re
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
LINK = "collections/ansible_collections/trinode/platform"
SPDX = "SPDX-License-Identifier: GPL-3.0-or-later"


def listed(*arguments: str) -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in done.stdout.split("\0") if name]


def tracked() -> list[Path]:
    """Every file that git knows or would take."""
    names = listed("--cached", "--others", "--exclude-standard", "--", ":!collections")
    return sorted(path for name in names if (path := ROOT / name).is_file())


FILES = tracked()
PLUGINS = sorted(
    path for kind in ("modules", "filter", "action", "lookup", "test") for path in (ROOT / "plugins" / kind).glob("*.py") if not path.name.startswith("_")
)
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))


class Loader(yaml.SafeLoader):
    """Reads Ansible's own tags, as in an example, as plain values."""


Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None)


def read_yaml(text: str) -> t.Any:
    return yaml.load(text, Loader)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="ignore")


def is_python(path: Path) -> bool:
    first = text_of(path).partition("\n")[0]
    return path.suffix == ".py" or (first.startswith("#!") and "python" in first)


def constants(path: Path) -> dict[str, str]:
    """The text constants of a module and of its classes, DOCUMENTATION among them."""
    found = {}
    body = ast.parse(text_of(path)).body
    for node in (*body, *(inner for outer in body if isinstance(outer, ast.ClassDef) for inner in outer.body)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.update({target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)})
    return found


def documents(path: Path) -> dict[str, dict[str, t.Any]]:
    """The documentation of each plugin in a file by its name: inside of it, or beside it where one file holds several."""
    own = constants(path)
    if "DOCUMENTATION" in own:
        return {path.stem: {key: read_yaml(own[key]) if key in own else None for key in ("DOCUMENTATION", "EXAMPLES", "RETURN")}}
    names = [path.stem]
    if path.parent.name in ("filter", "test"):
        names = re.findall(r"^\s*[\"']([a-z0-9_]+)[\"']:\s", text_of(path)[text_of(path).find("class ") :], re.MULTILINE) or names
    beside = {}
    for name in names:
        sidecar = path.parent / f"{name}.yml"
        assert sidecar.exists(), f"{relative(path)}: {name} is documented neither in the file nor in {relative(sidecar)}"
        beside[name] = read_yaml(text_of(sidecar))
    return beside


def fragment(path: Path) -> t.Any:
    """The documentation of a fragment, which may be computed."""
    module = importlib.import_module(f"ansible_collections.trinode.platform.plugins.doc_fragments.{path.stem}")
    return read_yaml(module.ModuleDocFragment.DOCUMENTATION)


plugin_test = pytest.mark.parametrize("path", [pytest.param(path, id=relative(path)) for path in PLUGINS])


def test_there_is_something_to_check() -> None:
    assert FILES
    assert PLUGINS
    assert PLAYBOOKS


@plugin_test
def test_plugins_are_documented(path: Path) -> None:
    module_beside_action = path.parent.name == "action" and (ROOT / "plugins" / "modules" / path.name).exists()
    if module_beside_action:
        return
    for name, document in documents(path).items():
        head = document["DOCUMENTATION"]
        # An action plugin without a module carries the key action, the others name, module or nothing.
        assert (head.get("module") or head.get("name") or head.get("action")) == name
        assert head["short_description"] and not head["short_description"].endswith(".")
        assert head.get("version_added"), f"{name}: version_added is missing"
        assert document["EXAMPLES"], f"{name}: EXAMPLES is missing"
        assert document.get("RETURN") is not None, f"{name}: RETURN is missing"
        if path.parent.name == "modules":
            assert {"check_mode", "diff_mode"} <= set(head.get("attributes") or {}), f"{name}: the attributes check_mode and diff_mode are missing"


@plugin_test
def test_plugins_are_mentioned(path: Path) -> None:
    """A plugin that neither a role, a playbook nor a page names is used by nobody."""
    places = [file for file in FILES if file.parts[len(ROOT.parts)] in ("roles", "playbooks", "docs", "molecule", "README.md") or file.name == "README.md"]
    for name in documents(path) if path.parent.name in ("filter", "test") else [path.stem]:
        assert any(f"trinode.platform.{name}" in text_of(file) for file in places), f"trinode.platform.{name} is named nowhere"


def test_filters_have_a_page() -> None:
    guide = text_of(ROOT / "docs" / "filter_guide.md")
    for path in PLUGINS:
        if path.parent.name == "filter" and "upstreams" in path.stem:
            for name in documents(path):
                assert name in guide, f"docs/filter_guide.md does not mention {name}"


def test_every_program_carries_its_licence() -> None:
    code = [path for path in FILES if is_python(path) or text_of(path).startswith("#!")]
    assert code
    assert [relative(path) for path in code if SPDX not in "\n".join(text_of(path).splitlines()[:6])] == []


def test_programs_are_executable_and_others_are_not() -> None:
    """Modules carry an interpreter for Ansible's sake; files of roles get their mode from the task that copies them."""
    wrong = []
    for path in FILES:
        name = relative(path)
        if name.startswith(("plugins/", "roles/", "molecule/", "services/")):
            continue
        if text_of(path).startswith("#!") != os.access(path, os.X_OK):
            wrong.append(name)
    assert wrong == []


# Written in parts, because this file is searched too.
FORBIDDEN = {
    "a package registry": re.compile(
        "|".join(["py" + r"pi\.org", "python" + r"hosted\.org", "registry" + r"\.npmjs", "proxy" + r"\.golang\.org", "sum" + r"\.golang\.org"])
    ),
    "a path of one machine": re.compile(r"(?<![\w.$}\"'])/(?:work|tmp/" + r"lab|root/go)(?:/|\b)(?!spaces)"),
}


@pytest.mark.parametrize("what", sorted(FORBIDDEN))
def test_files_do_not_name(what: str) -> None:
    found = []
    for path in FILES:
        for number, line in enumerate(text_of(path).splitlines(), 1):
            if FORBIDDEN[what].search(line):
                found.append(f"{relative(path)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_the_checkout_is_the_collection() -> None:
    path = ROOT / LINK
    assert path.is_symlink()
    assert str(path.readlink()) == "../../.."
    staged = listed("--stage", "--", LINK)
    if staged:
        assert staged[0].split()[0] == "120000", "git must keep it as a link"
    galaxy = yaml.safe_load(text_of(ROOT / "galaxy.yml"))
    assert path == ROOT / "collections" / "ansible_collections" / galaxy["namespace"] / galaxy["name"]


def test_the_tarball_holds_only_what_users_need() -> None:
    galaxy = yaml.safe_load(text_of(ROOT / "galaxy.yml"))
    ignored = galaxy["build_ignore"]
    kept = sorted(
        path.name for path in ROOT.iterdir() if path.name not in (".git", "galaxy.yml") and not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
    )
    allowed = {
        "CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "changelogs", "docs", "inventories", "meta", "playbooks", "plugins",
        "requirements.in", "requirements.txt", "roles", "services", "site.yml",
    }  # fmt: skip
    assert set(kept) <= allowed, "neither meant for users nor in build_ignore of galaxy.yml"
    secrets = "inventories/hospital/secrets"
    assert any(fnmatch.fnmatch(secrets, pattern) for pattern in ignored), "secrets of an inventory would be published"


def plays(path: Path) -> list[dict[str, t.Any]]:
    return read_yaml(text_of(path)) or []


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in [ROOT / "site.yml", *PLAYBOOKS]])
def test_playbooks_name_everything_in_full(path: Path) -> None:
    for play in plays(path):
        assert play.get("name"), "a play without a name"
        for role in play.get("roles") or []:
            name = role if isinstance(role, str) else role.get("role", role.get("name"))
            assert name.startswith("trinode.platform."), f"role {name}"
            assert (ROOT / "roles" / name.rpartition(".")[2]).is_dir(), f"there is no role {name}"


def test_site_only_imports() -> None:
    assert [set(play) for play in plays(ROOT / "site.yml")] == [{"name", "ansible.builtin.import_playbook"}]


def test_versions_agree() -> None:
    """The version of a product is written in several places; a file that says another one would be believed."""
    products = yaml.safe_load(text_of(ROOT / "tools" / "artifacts" / "products.json"))
    text = str(products)
    for role, variable in (("consul_server", "consul_server_version"), ("consul_template", "consul_template_version")):
        version = yaml.safe_load(text_of(ROOT / "roles" / role / "defaults" / "main.yml"))[variable]
        assert str(version) in text, f"{variable} is {version}, which tools/artifacts/products.json does not make"


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_pinned_requirements(name: str) -> None:
    """Everything that the .in file asks for is pinned with its hashes, and by nothing but name and version."""
    wanted = {match[0].lower() for line in text_of(ROOT / f"{name}.in").splitlines() if (match := re.match(r"[A-Za-z0-9_][A-Za-z0-9_-]*", line))}
    lines = text_of(ROOT / f"{name}.txt").splitlines()
    pinned = {match[1].lower(): number for number, line in enumerate(lines) if (match := re.match(r"([A-Za-z0-9_.-]+)==[0-9][^ ]*( ;[^\\]*)?\s*\\$", line))}
    assert wanted <= set(pinned)
    assert all(re.match(r"    --hash=sha256:[0-9a-f]{64}", lines[number + 1]) for number in pinned.values())
    assert [line for line in lines if "://" in line or line.startswith(("-i", "--index", "--find", "--extra"))] == []


def descriptions(value: t.Any) -> t.Iterator[list[t.Any]]:
    """Every description in a documentation, as its paragraphs."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key == "description" and isinstance(inner, (str, list)):
            yield inner if isinstance(inner, list) else [inner]
        else:
            yield from descriptions(inner)


DESCRIBED = sorted(
    {path for path in PLUGINS if path.parent.name != "action"}
    | {*(ROOT / "plugins" / "doc_fragments").glob("_*.py"), *ROOT.glob("roles/*/meta/argument_specs.yml")}
)


@pytest.mark.parametrize("path", DESCRIBED, ids=relative)
def test_a_paragraph_of_a_description_is_a_sentence(path: Path) -> None:
    """YAML takes `[a sentence, with a comma]` for two of them."""
    document = read_yaml(text_of(path)) if path.suffix == ".yml" else fragment(path) if path.parent.name == "doc_fragments" else documents(path)
    paragraphs = [str(paragraph) for found in descriptions(document) for paragraph in found]
    assert paragraphs
    names = ("consul-template", "libc", "nginx", "registrator", "systemd")
    assert [text for text in paragraphs if text[:1].islower() and not text.startswith(names)] == []
