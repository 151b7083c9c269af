# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tarball, installed where there is only what it declares.

That is ansible-core, the packages of requirements.in, and the dependencies of galaxy.yml.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import ansible_collections
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = next(Path(path) for path in ansible_collections.__path__ if Path(path, "community").is_dir())
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
#: Everything of other collections that is only called when a playbook reaches it. The authority's modules run on the
#: control node.
CALLS = """---
- name: Call the plugins of other collections
  hosts: localhost
  gather_facts: false
  vars:
    nodes: [{name: a, address: "::1"}, {name: b, address: 192.0.2.7}]
  tasks:
    - name: Render
      ansible.builtin.assert:
        that:
          - (nodes[0].address | ansible.utils.ipwrap) == '[::1]'
          - nodes[1].address is ansible.utils.ip_address
          - (nodes | community.general.json_query('[].name')) == ['a', 'b']
          - "(['a'] | map('community.general.dict_kv', 'x') | list) == [{'x': 'a'}]"
    - name: Issue a certificate
      ansible.builtin.import_role:
        name: trinode.platform.consul_tls
      vars:
        consul_tls_node: consul-1
        consul_tls_address: 192.0.2.7
        consul_tls_directory: "{{ lookup('ansible.builtin.env', 'SECRETS') }}"
"""


class Bare(t.NamedTuple):
    """An environment with nothing but what is declared."""

    place: Path
    environment: dict[str, str]

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment, outside of the checkout."""
        program, *arguments = command
        return subprocess.run(
            [str(self.place / "venv" / "bin" / program), *arguments],
            cwd=self.place,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def install(self, tarball: Path, target: str) -> subprocess.CompletedProcess[str]:
        """Install the tarball, with its dependencies compared and nothing asked of a server."""
        search = os.pathsep.join(str(self.place / name) for name in (target, "dependencies"))
        command = ("ansible-galaxy", "collection", "install", str(tarball), "--offline", "-p", str(self.place / target))
        return self.run(*command, ANSIBLE_COLLECTIONS_PATH=search)


@pytest.fixture(scope="module", name="tarball")
def fixture_tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, built from what git knows, or would take, of the checkout."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("tarball")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ":!collections"]
    for name in subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    build = [
        str(Path(sys.executable).with_name("ansible-galaxy")),
        "collection",
        "build",
        str(source),
        "--output-path",
        str(target),
    ]
    subprocess.run(build, check=True, capture_output=True)
    return next(target.glob("trinode-platform-*.tar.gz"))


def operators_packages() -> str:
    """The lines of requirements.txt without the package ansible, which brings every collection."""
    kept, skip = [], False
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith((" ", "#")):
            skip = line.startswith("ansible==")
        kept += [] if skip else [line]
    return "\n".join(kept) + "\n"


def dependencies(names: t.Iterable[str]) -> set[str]:
    """The collections and all that they depend on themselves."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            manifest = json.loads(COLLECTIONS.joinpath(*name.split("."), "MANIFEST.json").read_text(encoding="utf-8"))
            pending += manifest["collection_info"]["dependencies"]
    return found


@pytest.fixture(scope="module", name="bare")
def fixture_bare(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """ansible-core with the operator's Python packages, the declared collections, and the tarball."""
    place = tmp_path_factory.mktemp("bare")
    (place / "requirements.txt").write_text(operators_packages(), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)
    pip = [
        str(place / "venv" / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "-r",
        str(place / "requirements.txt"),
    ]
    subprocess.run(pip, check=True)
    for name in dependencies(yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["dependencies"]):
        link = place.joinpath("dependencies", "ansible_collections", *name.split("."))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(COLLECTIONS.joinpath(*name.split(".")))
    foreign = ("ANSIBLE_", "PYTHON", "VIRTUAL_ENV")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own |= {"HOME": str(place), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "false", "LC_ALL": "C.UTF-8"}
    own["ANSIBLE_COLLECTIONS_PATH"] = os.pathsep.join(str(place / name) for name in ("installed", "dependencies"))
    made = Bare(place, own)
    done = made.install(tarball, "installed")
    assert done.returncode == 0, done.stdout
    return made


@pytest.fixture(scope="module", name="inventory")
def fixture_inventory(bare: Bare) -> str:
    """The inventory that the tarball brings, to be copied."""
    return str(bare.place / "installed" / "ansible_collections" / "trinode" / "platform" / "inventories" / "hospital")


@pytest.mark.parametrize("look", ["--syntax-check", "--list-tasks"])
def test_every_playbook_is_found_and_complete(bare: Bare, inventory: str, look: str) -> None:
    assert "site" in PLAYBOOKS
    done = bare.run("ansible-playbook", *(f"trinode.platform.{name}" for name in PLAYBOOKS), "-i", inventory, look)
    assert done.returncode == 0 and "ERROR" not in done.stdout, done.stdout
    installed = re.escape(f"{bare.place}/installed/")
    shown = re.findall(rf"^playbook: {installed}.*/playbooks/(\w+)\.yml$", done.stdout, re.MULTILINE)
    assert shown == PLAYBOOKS


def test_what_other_collections_bring_works(bare: Bare) -> None:
    """Most of it is only called deep in a run, such as on the day when the majority of the servers is lost."""
    (bare.place / "calls.yml").write_text(CALLS, encoding="utf-8")
    secrets = bare.place / "secrets"
    secrets.mkdir(mode=0o700)
    done = bare.run("ansible-playbook", "calls.yml", "-c", "local", SECRETS=str(secrets))
    assert done.returncode == 0, done.stdout
    assert any("consul-1" in path.name for path in secrets.rglob("*")), sorted(path.name for path in secrets.rglob("*"))


def test_an_acceptance_without_sample_images_says_how_to_build_them(bare: Bare, inventory: str, tmp_path: Path) -> None:
    """Before anything is started, and also the address of a mirror that does not have them."""
    for mirror in (str(tmp_path), "http://127.0.0.1:9"):
        # The open form, because the secrets of a secure site would be missing as well.
        local = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "ansible_become": False,
            "platform_security": "open",
        }
        variables = json.dumps({"platform_artifact_mirror": mirror, **local})
        done = bare.run(
            "ansible-playbook",
            "trinode.platform.acceptance",
            "-i",
            inventory,
            "-e",
            variables,
            "-e",
            f"platform_secrets_directory={tmp_path}",
        )
        said = " ".join(done.stdout.split())
        assert done.returncode != 0 and "Make a certificate" not in done.stdout, done.stdout
        fact = f"control node: {mirror}/images/trinode-samples.tar, or the same name with .json, does not exist"
        for text in (fact, "services/build.py", "make samples", "acceptance_sample_services=false"):
            assert text in said, done.stdout


@pytest.mark.parametrize("playbook", ["site", "recover_quorum"])
def test_a_python_package_that_is_missing_is_named_before_the_first_task(
    bare: Bare,
    inventory: str,
    playbook: str,
) -> None:
    """Not on the day when a filter needs it."""
    (package,) = bare.place.glob("venv/lib/python3*/site-packages/netaddr")
    away = package.with_name("netaddr.away")
    package.rename(away)
    try:
        done = bare.run("ansible-playbook", f"trinode.platform.{playbook}", "-i", inventory)
    finally:
        away.rename(package)
    assert done.returncode != 0 and "TASK" not in done.stdout, done.stdout
    assert "Python of the control node lacks netaddr: run 'pip install netaddr'" in done.stdout.replace(";", ":"), done.stdout


def test_a_dependency_that_is_missing_is_named_by_the_installation(bare: Bare, tarball: Path) -> None:
    """So the fixture shows that galaxy.yml is complete: what it lacks is not on the path."""
    link = bare.place / "dependencies" / "ansible_collections" / "community" / "crypto"
    target = link.readlink()
    link.unlink()
    try:
        done = bare.install(tarball, "second")
    finally:
        link.symlink_to(target)
    assert done.returncode != 0 and "community.crypto" in done.stdout, done.stdout


def test_packages_of_the_project_are_not_there(bare: Bare) -> None:
    """What makes the environment bare: neither the tools of development, nor any other collection."""
    done = bare.run(
        "python",
        "-c",
        "import importlib.util as i; print([n for n in ('molecule', 'pytest', 'requests') if i.find_spec(n)])",
    )
    assert done.stdout.strip() == "[]"
    listed = bare.run("ansible-galaxy", "collection", "list", "--format", "json").stdout
    found = {name for names in json.loads(listed[listed.index("{") :]).values() for name in names}
    names = {name for name in found if not name.startswith("ansible._")}
    declared = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["dependencies"]
    assert names == dependencies(declared) | {"trinode.platform"}
