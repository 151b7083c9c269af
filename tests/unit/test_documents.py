# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What documents lead to exists, in a checkout as well as in the tarball."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
MAKE = re.compile(r"(?<![\w-])make ((?:[a-z][a-z0-9-]*)(?: [a-z][a-z0-9-]*)*)")


def tracked(*patterns: str) -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted(name for name in names if name and (ROOT / name).is_file())


def in_tarball(name: str) -> bool:
    """Whether ansible-galaxy packs a file: neither it nor a directory above it is in build_ignore."""
    above = [name, *(str(parent) for parent in Path(name).parents)]
    return not any(fnmatch.fnmatch(part, pattern) for part in above for pattern in GALAXY["build_ignore"])


DOCUMENTS = [name for name in tracked("*.md") if not name.startswith(("CHANGELOG", "collections/"))]
FILES = set(tracked())


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(name: str) -> set[str]:
    """The anchors that a page has for its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text_of(name), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(name: str) -> t.Iterator[tuple[str, str]]:
    """The links of a document: file, relative to the checkout, and anchor."""
    for match in LINK.finditer(CODE.sub("", text_of(name))):
        target, _hash, anchor = match["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (ROOT / name).parent / target if target else ROOT / name
        yield str(path.resolve().relative_to(ROOT)), anchor


def missing_links(name: str, exists: t.Callable[[str], bool]) -> list[str]:
    return [target for target, _anchor in links(name) if not exists(target)]


def test_there_are_documents() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/operations.md", "roles/nginx/README.md"} <= set(DOCUMENTS)
    assert in_tarball("README.md")
    assert not in_tarball("tools/stages.py") and not in_tarball("inventories/demo/hosts.yml")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_and_headings(name: str) -> None:
    assert missing_links(name, lambda target: (ROOT / target).exists()) == []
    assert [f"{file}#{anchor}" for file, anchor in links(name) if anchor and anchor not in anchors(file)] == []


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if in_tarball(name)])
def test_links_of_the_tarball_lead_into_it(name: str) -> None:
    files = {file for file in FILES if in_tarball(file)}
    packed = files | {str(folder) for file in files for folder in Path(file).parents}
    remedy = f"not in the tarball: link to {GALAXY['repository']}/blob/main/…"
    assert missing_links(name, packed.__contains__) == [], remedy


@pytest.mark.parametrize("name", DOCUMENTS)
def test_addresses_of_the_repository_name_files_that_exist(name: str) -> None:
    named = re.findall(re.escape(GALAXY["repository"]) + r"/(?:blob|tree)/main/([^)\s#`]+)", text_of(name))
    assert [path for path in named if not (ROOT / path).exists()] == []


def targets() -> set[str]:
    """The targets of the Makefile."""
    found = re.findall(r"^([a-z][a-z0-9 -]*):(?!=)", text_of("Makefile"), re.MULTILINE)
    return {name for line in found for name in line.split()}


def test_make_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)$", text_of("Makefile"), re.MULTILINE)
    assert phony is not None
    assert set(phony[1].replace("\\", " ").split()) == targets()
    command = ["make", "--no-print-directory", "help"]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    # The target that only checks for Python is no work of its own.
    wanted = targets() - {"python-there"}
    # Names stand before the first run of two spaces, several of them with commas.
    names = [re.split(r"\s{2,}", line[7:])[0] for line in shown.splitlines() if line.startswith("  make ")]
    listed = {name for text in names for name in text.split(", ")}
    assert listed == wanted


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_in_documents_exist(name: str) -> None:
    text = text_of(name)
    quoted = "\n".join(re.findall(r"`([^`\n]*)`", text) + re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE))
    named = {word for found in MAKE.findall(re.sub(r"#.*", "", quoted)) for word in found.split()}
    assert named <= targets()


LEFT = ("reports/acceptance.json", "backups/x.snap", "build/x", "inventories/hospital/secrets/x")


@pytest.mark.parametrize("path", LEFT)
def test_what_runs_leave_is_ignored(path: str) -> None:
    done = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=ROOT, check=False)
    assert done.returncode == 0, f"git would take {path}"


def ci_examples() -> dict[str, dict[str, t.Any]]:
    """The examples for CI systems, by the heading above each."""
    found = re.findall(r"^## ([^\n]+)\n+```yaml\n(.*?)^```$", text_of("docs/ci.md"), re.MULTILINE | re.DOTALL)
    return {heading: yaml.safe_load(example) for heading, example in found}


def ci_commands() -> dict[str, list[str]]:
    """What each example runs."""
    examples = ci_examples()
    (job,) = examples["GitHub Actions"]["jobs"].values()
    (other,) = examples["GitLab CI"].values()
    return {"GitHub Actions": [step["run"] for step in job["steps"] if "run" in step], "GitLab CI": other["script"]}


@pytest.mark.parametrize("system", ["GitHub Actions", "GitLab CI"])
def test_the_examples_for_ci_run_plain_molecule(system: str) -> None:
    """The set-up, the environment, and a scenario that exists; no variable is set."""
    text = " && ".join(ci_commands()[system])
    match = re.fullmatch(r"make (\S+) && \. \.venv/bin/activate && molecule test -s (\S+)", text)
    assert match is not None, text
    assert match[1] in targets()
    assert (ROOT / "molecule" / match[2] / "molecule.yml").is_file()


def test_variables_of_the_scenarios_are_documented() -> None:
    files = [".config/molecule/config.yml", "molecule/shared/vars/site.yml", *tracked("molecule/*/molecule.yml")]
    used = {name for file in files for name in re.findall(r"\b(?:LAB_[A-Z]+|ARTIFACT_[A-Z]+)\b", text_of(file))}
    assert used == set(re.findall(r"^\| `([A-Z_]+)` \|", text_of("docs/ci.md"), re.MULTILINE))


ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if not path.name.startswith("_"))


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_an_example(role: str) -> None:
    """A play that uses it, with settings that it has; the acceptance is shown as a command."""
    text = text_of(f"roles/{role}/README.md")
    blocks = re.findall(r"^```ya?ml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    examples = [block for block in blocks if f"trinode.platform.{role}\n" in block]
    assert examples or re.search(r"^    ansible-playbook .*playbooks/", text, re.MULTILINE), f"{role}: no example"
    specs = yaml.safe_load(text_of(f"roles/{role}/meta/argument_specs.yml"))["argument_specs"]
    known = {name for spec in specs.values() for name in spec.get("options") or {}}
    used = {name for block in examples for name in re.findall(rf"^ +({role}_\w+):", block, re.MULTILINE)}
    assert used <= known


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_has_no_markup_of_ansible_doc(name: str) -> None:
    """O(option), V(value), P(plugin#type) and the like are for descriptions of plugins."""
    assert re.findall(r"(?<![\w`])[BCEILMOPRUV]\([a-z_][^)\n]*\)", CODE.sub("", text_of(name))) == []


# With arguments it is a command to type, without it is the name of a playbook.
DESTROYING = re.compile(r"\b(?:uninstall|restore|recover_quorum|remove_node)(?:\.yml)? +-[^`\n]*")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_that_destroy_something_name_the_site(name: str) -> None:
    """The playbooks refuse them otherwise."""
    assert [command for command in DESTROYING.findall(text_of(name)) if "confirm_datacenter=" not in command] == []


NAMED_TEST = re.compile(r"`((?:tests|molecule)/[\w/.]+\.py)?(?:::(\w+))?`")
LOSSES = (
    *("a label or an image", "a container", "the user of a service", "a token", "a node"),
    *("the control node, its backups and copies", "the supply chain", "a client on the network", "time"),
)
ANSWERS = ("They have", "They cannot", "You see", "End it:", "Tests:")


def named_tests(text: str) -> t.Iterator[tuple[str, str]]:
    """Return the tests that a text names; a name without a file is in the file before it."""
    last = ""
    for file, function in NAMED_TEST.findall(text):
        last = file or last
        if file or function:
            yield last, function


@pytest.mark.parametrize("name", DOCUMENTS)
def test_tests_that_documents_name_exist(name: str) -> None:
    def exists(file: str, function: str) -> bool:
        return file in FILES and (not function or f"\ndef {function}(" in text_of(file))

    assert [f"{file}::{function}" for file, function in named_tests(text_of(name)) if not exists(file, function)] == []


def test_security_answers_for_each_loss_and_names_what_proves_it() -> None:
    found = re.findall(r"^## \d\. ([^\n]+)\n\n(.*?)(?=^## |\Z)", text_of("docs/security.md"), re.MULTILINE | re.DOTALL)
    assert tuple(heading.lower() for heading, _text in found) == LOSSES
    for heading, text in found:
        assert tuple(re.findall(r"^- \*\*([^*]+)\*\*", text, re.MULTILINE)) == ANSWERS, heading
        assert [*named_tests(text.partition("**Tests:**")[2])], heading


def test_every_playbook_has_a_row() -> None:
    rows = re.findall(r"^\| `([a-z_]+\.yml)` \|", (ROOT / "docs/playbooks.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))
