# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody who sets up a site for the first time, with a bare machine, servers, and nothing but what README.md says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import typing as t
from pathlib import Path

import control
import lab
import yaml
from control import HOME

SECTION = "## A real site in five steps"
GALAXY = "The same from Galaxy"
TARBALL = re.compile(r"`(ansible-galaxy collection install \./[^`]+\.tar\.gz)`")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
#: How this machine reaches the registries of packages; the control node is on the same site.
REGISTRIES = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)


class Guide(t.NamedTuple):
    """The commands of the README, in its order."""

    checkout: list[str]
    galaxy: list[str]
    #: What takes the place of the installation from the Galaxy server.
    tarball: str


def guide(readme: str) -> Guide:
    """Take the commands out of the text: the indented lines of the steps, and those below them."""
    _before, found, rest = readme.partition(f"{SECTION}\n")
    section = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    steps, below, galaxy = section.partition(GALAXY)
    install = TARBALL.search(galaxy)
    wanted = f"'{SECTION}' with '{GALAXY}' and the installation of a tarball"
    assert found and below and install, f"README.md has no {wanted}"
    inside, outside = (re.compile(rf"^ {{{indent}}}(\S.*)$", re.MULTILINE) for indent in (7, 4))
    return Guide(inside.findall(steps), outside.findall(galaxy), install[1])


def preparation(commands: t.Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the commands at the first playbook: before it, people edit their inventory."""
    first = next(number for number, command in enumerate(commands) if command.startswith("ansible-playbook"))
    return list(commands[:first]), list(commands[first:])


class Newcomer(control.Machine):
    """A person with a shell on the control node; variables and the directory last from one command to the next."""

    def __init__(self, name: str = "session") -> None:
        super().__init__()
        self.session = f"{HOME}/.{name}"

    def begin(self) -> None:
        """Open a shell that reaches the registries as this machine does."""
        variables = {name: value for name in REGISTRIES if (value := os.environ.get(name))}
        if Path(CERTIFICATES).exists():
            control.docker("cp", "--follow-link", CERTIFICATES, f"{control.NAME}:{CERTIFICATES}")
            variables["PIP_CERT"] = CERTIFICATES
        lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        write = ("sh", "-c", f"cat > {self.session}")
        control.docker("exec", "--interactive", "--user", "ops", control.NAME, *write, input=lines)

    def type(self, command: str) -> lab.Play:
        """Run one command; it must succeed."""
        kept = f"{{ export -p; echo cd \"'$PWD'\"; }} > {self.session}"
        run = self.shell(f". {self.session}\nset -eo pipefail\n{command}\n{kept}")
        print(f"{command}: status {run.status}, {run.seconds:.0f} s")
        assert run.status == 0, f"{command}\nended with status {run.status}:\n{run.output[-8000:]}"
        return run


def allow_sudo() -> None:
    """Let the operator administer the control node, which the README's first command does."""
    lab.run("control", "echo 'ops ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ops && chmod 440 /etc/sudoers.d/ops")


def commit(place: Path) -> str:
    """Return a commit of what git knows, or would take, of this checkout, which stays as it is."""
    environment = {**os.environ, "GIT_INDEX_FILE": str(place / "index")}

    def git(*arguments: str) -> str:
        command = [
            "git",
            "-C",
            str(lab.ROOT),
            "-c",
            "user.name=test",
            "-c",
            "user.email=test@trinode.example",
            *arguments,
        ]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    git("read-tree", "HEAD")
    git("add", "--all")
    return git("commit-tree", git("write-tree"), "-m", "what is tested")


def repository(place: Path) -> Path:
    """A repository from which the checkout can be cloned."""
    target = place / "platform.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(target)], check=True)
    push = ["git", "-C", str(lab.ROOT), "push", "--quiet", str(target), f"{commit(place)}:refs/heads/main"]
    subprocess.run(push, check=True)
    return target


def tarball(place: Path, source: Path) -> Path:
    """The collection, built from the repository as a release is."""
    checkout = place / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(source), str(checkout)], check=True)
    subprocess.run(["ansible-galaxy", "collection", "build", str(checkout), "--output-path", str(place)], check=True)
    return next(place.glob("trinode-platform-*.tar.gz"))


def bring(path: Path, target: str) -> None:
    """Copy something to the operator's home."""
    control.docker("cp", "--follow-link", str(path), f"{control.NAME}:{target}")
    lab.run("control", f"chown -R ops:ops {target}")


def mirror() -> str:
    """Fill a mirror on the control node as `make artifacts samples` does, and return its path."""
    target = f"{HOME}/artifacts"
    text = (lab.ROOT / "tools" / "artifacts" / "products.json").read_text(encoding="utf-8")
    products = yaml.safe_load(text)["products"]
    for name in (*(f"{product['name']}/{product['version']}" for product in products if product["default"]), "images"):
        lab.run("control", f"mkdir -p {target}/{Path(name).parent}")
        control.docker("cp", f"{lab.MIRROR}/{name}", f"{control.NAME}:{target}/{name}")
    lab.run("control", f"chown -R ops:ops {target}")
    return target


def verdicts(path: str) -> dict[int, str]:
    """The status of each check in a report of the acceptance on the control node."""
    report = json.loads(lab.run("control", f"cat {path}"))
    return {check["number"]: check["status"] for check in report["checks"]}
