# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the collection uses is declared: collections in galaxy.yml, Python packages in requirements.in."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import ansible_collections
import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
SELF = "trinode.platform"
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
DECLARED: dict[str, str] = GALAXY["dependencies"]
#: Where the collections of the package ansible are.
COLLECTIONS = next(Path(path) for path in ansible_collections.__path__ if Path(path, "community").is_dir())
#: What users run or copy from.
USED_IN = ("roles", "playbooks", "plugins", "docs", "inventories", "site.yml", "README.md")
NAME = re.compile(r"(?<![\w./-])(?P<collection>[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*)\.(?P<plugin>[a-z][a-z0-9_]*)(?![\w/])")
#: The Python module of a package that is called otherwise.
PACKAGE_OF_MODULE = {"ansible": "ansible-core", "jinja2": "ansible-core", "yaml": "ansible-core"}
#: Programs that run on the nodes bring the distribution's packages along; the role lists them.
NODE_PROGRAMS = {"roles/registrator/files/registrator": {"docker": "python3-docker", "requests": "python3-requests", "urllib3": "python3-urllib3"}}
PLAYBOOK_IMPORT = re.compile(r"^\s*(from|import)\s")


def listed(*folders: str) -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted(path for name in names if name and (path := ROOT / name).is_file())


def collections_in(text: str, installed: t.Callable[[str], bool]) -> set[str]:
    """The full names of plugins in a text, Python's own imports left out."""
    lines = [line for line in text.splitlines() if not PLAYBOOK_IMPORT.match(line)]
    found = (match for line in lines for match in NAME.finditer(line))
    return {match[0] for match in found if installed(match["collection"])}


def is_collection(name: str) -> bool:
    """Whether it is a collection that the package ansible brings; one that it does not is unknown to everyone here."""
    return name != SELF and COLLECTIONS.joinpath(*name.split("."), "MANIFEST.json").is_file()


def used_plugins() -> dict[str, str]:
    """Each plugin of another collection, with a file that uses it."""
    texts = ((path, path.read_text(encoding="utf-8", errors="ignore")) for path in listed(*USED_IN))
    return {name: str(path.relative_to(ROOT)) for path, text in texts for name in collections_in(text, is_collection)}


def test_a_name_in_full_is_found() -> None:
    text = (
        "- community.crypto.x509_certificate_pipe:\nfrom ansible.utils.unsafe_proxy import wrap\n"
        "a | community.general.json_query('x') is ansible.utils.ip\nhttps://www.community.general.example"
    )
    names = {"community.crypto.x509_certificate_pipe", "community.general.json_query", "ansible.utils.ip"}
    assert collections_in(text, is_collection) == names


def test_every_collection_that_is_used_is_a_dependency() -> None:
    used = used_plugins()
    assert used
    missing = {name: file for name, file in used.items() if ".".join(name.split(".")[:2]) not in DECLARED}
    assert missing == {}, "used, and not among the dependencies in galaxy.yml"
    assert set(DECLARED) == {".".join(name.split(".")[:2]) for name in used}, "declared in galaxy.yml, and not used"


@pytest.mark.parametrize("name", DECLARED)
def test_a_dependency_is_bounded_and_tested_within_its_bounds(name: str) -> None:
    manifest = json.loads(COLLECTIONS.joinpath(*name.split("."), "MANIFEST.json").read_text(encoding="utf-8"))
    wanted, present = SpecifierSet(DECLARED[name]), Version(manifest["collection_info"]["version"])
    assert {bound.operator for bound in wanted} == {">=", "<"}, f"{name}: {wanted}"
    assert present in wanted, f"{name} {present} is what the tests use"


def test_json_query_works_with_this_ansible() -> None:
    """community.general before 11.1.2 lets the filter fail with ansible-core 2.19."""
    assert not SpecifierSet(DECLARED["community.general"]).contains("11.1.1")


def test_the_version_of_ansible_core_is_said_once() -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))["requires_ansible"]
    required = next(line for line in requirements("requirements.in") if line.startswith("ansible-core"))
    wanted, offered = SpecifierSet(runtime), SpecifierSet(required.removeprefix("ansible-core"))
    versions = [Version(f"2.{minor}.{patch}") for minor in range(15, 30) for patch in (0, 9)]
    assert list(wanted.filter(versions)) == list(offered.filter(versions))


def requirements(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith(("#", "-"))]


def packages(name: str) -> set[str]:
    return {re.split(r"[\s\[<>=;]", line)[0].lower() for line in requirements(name)}


def imports(path: Path) -> set[str]:
    """The Python modules that a file imports, wherever it does; its neighbours left out."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    beside = {inner.stem for folder in (path.parent, path.parent.parent) for inner in folder.iterdir()}
    return found - set(sys.stdlib_module_names) - beside - {"ansible_collections", "__future__"}


def is_python(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix == ".py" or (file.read(2) == b"#!" and b"python" in file.readline(100))


PROGRAMS = [path for path in listed("plugins", "roles") if is_python(path)]


def test_every_import_is_a_requirement_of_the_control_node_or_a_package_of_the_node() -> None:
    assert len(PROGRAMS) > 50
    missing = {}
    for path in PROGRAMS:
        name = str(path.relative_to(ROOT))
        on_node = next((given for folder, given in NODE_PROGRAMS.items() if name.startswith(folder)), {})
        for module in imports(path) - set(on_node):
            if PACKAGE_OF_MODULE.get(module, module) not in packages("requirements.in"):
                missing[name] = module
    assert missing == {}, "imported, and in neither the standard library nor requirements.in"


@pytest.mark.parametrize("folder", NODE_PROGRAMS)
def test_a_program_of_a_node_finds_its_packages(folder: str) -> None:
    role = ROOT.joinpath(*Path(folder).parts[:2])
    given = "\n".join(path.read_text(encoding="utf-8") for path in (role / "vars").glob("*.yml"))
    used = {module for path in PROGRAMS if path.is_relative_to(ROOT / folder) for module in imports(path)}
    assert used == set(NODE_PROGRAMS[folder]), "imported by the programs of the role"
    assert [package for package in NODE_PROGRAMS[folder].values() if package not in given] == []


def test_what_development_takes_is_apart() -> None:
    """An operator installs a dozen packages, and none of the tools of this project."""
    operators, developers = packages("requirements.txt"), packages("requirements-dev.txt")
    assert operators < developers
    assert not operators & packages("requirements-dev.in")
    assert len(operators) < 20
    assert {"ansible-core", "molecule", "molecule-plugins", "jmespath", "netaddr", "pytest-testinfra"} <= developers


def test_development_uses_the_operators_versions() -> None:
    operators, developers = ({line.split(" ")[0] for line in requirements(name) if "==" in line} for name in ("requirements.txt", "requirements-dev.txt"))
    assert operators <= developers
