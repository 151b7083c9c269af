# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The distribution's packages that the roles install, with all that they need, as one archive for each suite."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import typing as t
from dataclasses import dataclass
from pathlib import Path

import jinja2
import jinja2.nativetypes
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Which package a manager of the resolver comes from is known to the module that manages it, and nowhere else.
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.trinode.platform.plugins.module_utils._host import package_source
from ansible_collections.trinode.platform.plugins.module_utils._resolver import manager

#: The suites that the roles support, as the facts of a host name them.
SUITES = {
    "bullseye": ("Debian", "11"),
    "bookworm": ("Debian", "12"),
    "trixie": ("Debian", "13"),
    "jammy": ("Ubuntu", "22"),
    "noble": ("Ubuntu", "24"),
}
#: Suites without a package of systemd-resolved, because systemd itself brings it.
RESOLVED_IN_SYSTEMD = ("bullseye", "jammy")
#: What Ansible's own module for packages needs on a host, and installs itself where it is missing.
ANSIBLE = ["python3-apt"]
#: The package that makes the index.
INDEXER = ("apt-ftparchive", "apt-utils")
POCKETS = ("", "-updates", "-security", "/updates")


class BundleError(Exception):
    """One sentence: what is missing, and the remedy."""


@dataclass(frozen=True)
class Target:
    """Whose packages are wanted."""

    suite: str
    arch: str

    @property
    def name(self) -> str:
        """The archive's name."""
        return package_source.archive_name(self.suite, self.arch)

    @property
    def facts(self) -> dict[str, str]:
        """What Ansible would find on such a host, as far as lists of packages depend on it."""
        distribution, major = SUITES[self.suite]
        return {"distribution": distribution, "distribution_major_version": major, "distribution_release": self.suite}


# --- which packages ---------------------------------------------------------------------------------------------------


def installing_tasks(root: Path = ROOT) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """The tasks that install packages, with the names of their roles."""

    def walk(tasks: t.Any) -> t.Iterator[dict[str, t.Any]]:
        for task in tasks or []:
            yield task
            for key in ("block", "rescue", "always"):
                yield from walk(task.get(key))

    for path in sorted((root / "roles").glob("*/tasks/*.yml")):
        for task in walk(yaml.safe_load(path.read_text(encoding="utf-8"))):
            arguments = task.get("trinode.platform.packages") or {}
            if "name" in arguments:
                yield path.parent.parent.name, arguments


def role_packages(root: Path, facts: t.Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What the roles install on a host with these facts: packages for every host, and those of which a host has at most one."""
    common: set[str] = set(ANSIBLE)
    one_of: set[str] = set()
    environment = jinja2.nativetypes.NativeEnvironment(undefined=jinja2.StrictUndefined)
    for role, arguments in installing_tasks(root):
        names = arguments["name"]
        if isinstance(names, str) and "missing_package" in names:
            one_of.update(manager.PACKAGES.values())
            if facts["distribution_release"] in RESOLVED_IN_SYSTEMD:
                one_of.remove(manager.PACKAGES["resolved"])
            continue
        variables: dict[str, t.Any] = {"ansible_facts": facts}
        for file in ("defaults", "vars"):
            path = root / "roles" / role / file / "main.yml"
            variables.update(yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {})
        try:
            # Twice: the name of a variable, and what the variable itself is made of.
            for _round in range(2):
                names = environment.from_string(names).render(variables) if isinstance(names, str) and "{{" in names else names
        except jinja2.UndefinedError as error:
            raise BundleError(
                f"the packages of the role {role} depend on more than the host's facts ({error}); give them to tools/bundle/packages.py"
            ) from error
        common.update([names] if isinstance(names, str) else names)
    return sorted(common), sorted(one_of)


def package_sets(root: Path, facts: t.Mapping[str, str]) -> list[list[str]]:
    """Sets that can each be installed on one host."""
    common, one_of = role_packages(root, facts)
    return [[*common, other] for other in one_of] or [common]


# --- where from -------------------------------------------------------------------------------------------------------


def other_suite(name: str, own: str, wanted: str) -> str | None:
    """The wanted suite's part of an archive, where the machine has its own one; None for anything else."""
    return next((f"{wanted}{pocket}" for pocket in POCKETS if name == f"{own}{pocket}"), None)


def translate_line(line: str, own: str, wanted: str) -> str | None:
    """A line of sources.list for another suite; None when it names no part of this machine's suite."""
    match = re.fullmatch(r"deb\s+(\[[^\]]*\]\s+)?(\S+)\s+(\S+)(\s+[^#]*)?(#.*)?", line.strip())
    suite = match and other_suite(match[3], own, wanted)
    return f"deb {match[1] or ''}{match[2]} {suite}{(match[4] or '').rstrip()}" if match and suite else None


def translate_paragraphs(text: str, own: str, wanted: str) -> str:
    """The paragraphs of a .sources file that name this machine's suite, for another suite."""
    found = []
    for paragraph in re.split(r"\n[ \t]*\n", "\n".join(line for line in text.splitlines() if not line.startswith("#"))):
        # A field goes on in lines that begin with a space.
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", paragraph, re.MULTILINE))
        known = {key.lower(): value for key, value in fields.items()}
        suites = [suite for name in known.get("suites", "").split() if (suite := other_suite(name, own, wanted))]
        if suites and "deb" in known.get("types", "").split() and known.get("enabled", "yes").lower() not in ("no", "false", "0"):
            changed = {"types": "deb", "suites": " ".join(suites)}
            found.append("".join(f"{key}: {changed.get(key.lower(), value)}\n" for key, value in fields.items()))
    return "\n".join(found)


def machine_sources(own: str, wanted: str, etc: Path = Path("/etc/apt")) -> dict[str, str]:
    """The contents of source files for the wanted suite, made from those of this machine."""
    found = {}
    parts = etc / "sources.list.d"
    for number, path in enumerate([etc / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]):
        if path.exists():
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".sources":
                translated = translate_paragraphs(text, own, wanted)
            else:
                translated = "".join(f"{line}\n" for old in text.splitlines() if (line := translate_line(old, own, wanted)))
            if translated:
                found[f"{number}{path.suffix}"] = translated
    if not found:
        raise BundleError(
            f"no package source of this machine names its suite {own}, so there is none to take the packages of {wanted} from:"
            f" make the bundle on a machine with {wanted}, or correct {parts}"
        )
    return found


def machine_release(text: str | None = None) -> tuple[str, str]:
    """The distribution and the suite of this machine, as /etc/os-release has them."""
    text = Path("/etc/os-release").read_text(encoding="utf-8") if text is None else text
    fields = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    values = {key: "".join(shlex.split(value)) for key, value in fields.items() if key in ("ID", "VERSION_CODENAME")}
    return values.get("ID", "an unknown system"), values.get("VERSION_CODENAME", "")


# --- apt, with everything of its own ----------------------------------------------------------------------------------


class PrivateApt:
    """apt as it would be on a bare host: with its own lists, and with nothing installed."""

    def __init__(self, place: Path, target: Target, sources: t.Mapping[str, str], origin: str = "") -> None:
        self.place = place = place.absolute()
        self.target = target
        for directory in ("etc/sources.list.d", "etc/none.d", "state/lists/partial", "cache/archives/partial", "empty/partial"):
            (place / directory).mkdir(parents=True, exist_ok=True)
        for old in (place / "etc/sources.list.d").iterdir():
            old.unlink()
        for name, text in sources.items():
            (place / "etc/sources.list.d" / name).write_text(text, encoding="utf-8")
        # Nothing is installed, so that everything is downloaded that a host could lack.
        (place / "state/status").write_text("", encoding="utf-8")
        # Where others offer packages of the same name, those of the distribution are the ones that a host would get.
        preferences = f"Package: *\nPin: release o={origin}\nPin-Priority: 990\n" if origin else ""
        (place / "etc/preferences").write_text(preferences, encoding="utf-8")

    def __call__(self, *arguments: str, archives: str = "cache/archives") -> str:
        """Run apt-get and return what it printed."""
        place = self.place
        settings = {
            "Dir::Etc::sourcelist": place / "etc/none.list",
            "Dir::Etc::sourceparts": place / "etc/sources.list.d",
            "Dir::Etc::preferences": place / "etc/preferences",
            "Dir::Etc::preferencesparts": place / "etc/none.d",
            "Dir::State": place / "state",
            "Dir::State::status": place / "state/status",
            "Dir::Cache": place / "cache",
            "Dir::Cache::archives": place / archives,
            "APT::Architecture": self.target.arch,
            "APT::Architectures": self.target.arch,
            "APT::Get::Assume-Yes": "true",
            "APT::Install-Recommends": "false",
            "APT::Update::Error-Mode": "any",
            # The directories belong to whoever runs this.
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        command = ["apt-get", "--quiet", *(word for key, value in settings.items() for word in ("--option", f"{key}={value}")), *arguments]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
        )
        if done.returncode != 0:
            last = "\n".join(done.stdout.splitlines()[-15:])
            raise BundleError(f"apt-get {' '.join(arguments)} for {self.target.suite} ended with status {done.returncode}; see its last lines:\n{last}")
        return done.stdout

    def files_of(self, packages: t.Sequence[str]) -> list[str]:
        """The names of the files of packages and of all that they need."""
        # Where nothing lies in the cache, every file is named.
        return re.findall(r"^'\S+' (\S+\.deb) \d+", self("install", "--print-uris", *packages, archives="empty"), re.MULTILINE)


# --- the archive ------------------------------------------------------------------------------------------------------


def plain_name(name: str) -> str:
    """The file's name without the epoch: a file: source would take its percent sign for an escape."""
    return re.sub(r"_\d+%3a", "_", name)


def write_index(directory: Path, target: Target) -> None:
    """Packages and Release, as every source of apt has them."""
    no_old_sums = [word for kind in ("MD5", "SHA1", "SHA512") for word in ("-o", f"APT::FTPArchive::{kind}=false")]
    words = {"Label": package_source.LABEL, "Origin": package_source.LABEL, "Suite": target.suite, "Codename": target.suite, "Architectures": target.arch}
    release = [word for key, value in words.items() for word in ("-o", f"APT::FTPArchive::Release::{key}={value}")]
    for name, arguments in (("Packages", ["packages"]), ("Release", [*release, "release"])):
        try:
            done = subprocess.run(["apt-ftparchive", *no_old_sums, *arguments, "."], cwd=directory, capture_output=True, text=True, check=True)
        except FileNotFoundError as error:
            raise BundleError(f"{INDEXER[0]} is missing: install it with 'apt-get install {INDEXER[1]}'") from error
        except subprocess.CalledProcessError as error:
            raise BundleError(f"{INDEXER[0]} {arguments[-1]} failed: {error.stderr.strip()}") from error
        # It must not find itself.
        (directory / name).write_text(done.stdout, encoding="utf-8")


def write_tar(directory: Path, target: Path) -> None:
    """Everything of a flat directory, Release as the last member, equal for equal files."""
    names = sorted((path.name for path in directory.iterdir()), key=lambda name: (name == "Release", name))
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in names:
            information = tarfile.TarInfo(name)
            information.size = (directory / name).stat().st_size
            information.mode = 0o644
            with (directory / name).open("rb") as file:
                archive.addfile(information, file)


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recipe(sets: t.Sequence[t.Sequence[str]]) -> str:
    """What the archive was made for, to see whether it still is what is wanted."""
    return "".join(f"{' '.join(one)}\n" for one in sets)


def make(target: Target, directory: Path, work: Path, update: bool, say: t.Callable[[str], None], root: Path = ROOT) -> Path:
    """The archive of a suite in `directory`; one that is there and holds what the roles install is left alone."""
    if target.suite not in SUITES:
        raise BundleError(f"the suite {target.suite!r} is unknown; the roles support {', '.join(SUITES)}: correct SUITES")
    sets = package_sets(root, target.facts)
    archive = directory / target.name
    checksum, remembered = directory / f"{target.name}.sha256", work / f"{target.name}.recipe"
    if not update and archive.exists() and checksum.exists() and remembered.exists() and remembered.read_text(encoding="utf-8") == recipe(sets):
        say(f"the packages of {target.suite} are there")
        return archive
    own_distribution, own_suite = machine_release()
    distribution = target.facts["distribution"]
    if distribution.lower() != own_distribution:
        raise BundleError(
            f"the packages of {target.suite} come from {distribution}, and this machine is {own_distribution}: make them on a {distribution} machine"
        )
    place = work / f"apt-{target.suite}-{target.arch}"
    apt = PrivateApt(place, target, machine_sources(own_suite, target.suite), distribution)
    say(f"reading the package lists of {target.suite}")
    apt("update")
    names: set[str] = set()
    for one in sets:
        say(f"downloading {' '.join(one)} of {target.suite}, with all that they need")
        apt("install", "--download-only", *one)
        names.update(apt.files_of(one))
    index = work / f"index-{target.suite}-{target.arch}"
    shutil.rmtree(index, ignore_errors=True)
    index.mkdir(parents=True)
    for name in names:
        os.link(place / "cache/archives" / name, index / plain_name(name))
    write_index(index, target)
    # The proof: from this archive alone, each set can be installed where nothing is.
    source = {"own.list": f"deb [trusted=yes] file:{index.absolute()} ./\n"}
    alone = PrivateApt(work / f"proof-{target.suite}-{target.arch}", target, source)
    alone("update")
    for one in sets:
        alone("install", "--simulate", *one)
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / f".{target.name}.part"
    try:
        write_tar(index, part)
        # A checksum without its archive counts as nothing; one of another archive would not.
        checksum.unlink(missing_ok=True)
        part.replace(archive)
        checksum.write_text(f"{sha256(archive)}  {archive.name}\n", encoding="utf-8")
        remembered.write_text(recipe(sets), encoding="utf-8")
    finally:
        part.unlink(missing_ok=True)
        shutil.rmtree(index, ignore_errors=True)
    # What an earlier run downloaded and this one did not need.
    for old in (place / "cache/archives").glob("*.deb"):
        if old.name not in names:
            old.unlink()
    say(f"the packages of {target.suite}: {len(names)} files, {archive.stat().st_size / 1e6:.0f} MB")
    return archive


def machine_arch() -> str:
    """This machine's architecture as Debian names it."""
    return package_source.architecture(platform.machine())
