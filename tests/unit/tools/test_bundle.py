# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into a bundle: the packages that the roles install, from the sources of this machine, and files that match their checksums."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import types
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / "tools" / "bundle"


def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


packages = load("packages")
sbom = load("sbom")
bundle = load("bundle")


# --- which packages ---------------------------------------------------------------------------------------------------


def tasks(items: list[dict[str, object]]) -> list[dict[str, object]]:
    found = []
    for task in items or []:
        found.append(task)
        for key in ("block", "rescue", "always"):
            found += tasks(task.get(key))  # type: ignore[arg-type]
    return found


def test_the_roles_install_packages_in_one_way_only() -> None:
    """What is installed otherwise would be missing in every bundle."""
    strange = []
    for path in sorted(ROOT.glob("roles/*/tasks/*.yml")):
        for task in tasks(yaml.safe_load(path.read_text(encoding="utf-8"))):
            for module in ("ansible.builtin.apt", "ansible.builtin.package", "ansible.builtin.dnf"):
                arguments = task.get(module)
                if arguments and not (arguments.get("state") == "absent" or arguments.get("only_upgrade")):  # type: ignore[attr-defined]
                    strange.append(f"{path.relative_to(ROOT)}: {task['name']}")
            if "apt-get install" in str(task) or "apt install" in str(task):
                strange.append(f"{path.relative_to(ROOT)}: {task['name']}")
    assert strange == [], "install with trinode.platform.packages, from which the bundle takes its list"
    assert {role for role, _arguments in packages.installing_tasks()} == {"docker_daemon_dns", "nginx", "registrator", "resolvconf_dns"}


@pytest.mark.parametrize("suite", packages.SUITES)
def test_the_packages_are_those_of_the_roles(suite: str) -> None:
    common, one_of = packages.role_packages(ROOT, packages.Target(suite, "amd64").facts)
    nginx = yaml.safe_load((ROOT / "roles/nginx/vars/main.yml").read_text(encoding="utf-8"))["__nginx_packages"]
    registrator = yaml.safe_load((ROOT / "roles/registrator/vars/main.yml").read_text(encoding="utf-8"))["__registrator_packages"]
    docker = ["docker.io", "docker-cli"] if suite == "trixie" else ["docker.io"]
    assert common == sorted({*nginx, *registrator, *docker, "nftables", "python3-apt"})
    # Older suites have systemd-resolved in systemd.
    assert one_of == (["resolvconf"] if suite in ("bullseye", "jammy") else ["resolvconf", "systemd-resolved"])
    # The two managers of the resolver exclude each other.
    assert packages.package_sets(ROOT, packages.Target(suite, "amd64").facts) == [[*common, manager] for manager in one_of]


def test_every_suite_of_the_roles_is_known() -> None:
    meta = yaml.safe_load((ROOT / "roles/package_mirror/meta/main.yml").read_text(encoding="utf-8"))["galaxy_info"]["platforms"]
    assert {(platform["name"], suite) for platform in meta for suite in platform["versions"]} == {(value[0], key) for key, value in packages.SUITES.items()}
    supported = yaml.safe_load((ROOT / "roles/preflight/defaults/main.yml").read_text(encoding="utf-8"))["preflight_supported_platforms"]
    assert {(distribution.lower(), major) for distribution, major in packages.SUITES.values()} == {
        (distribution, version.partition(".")[0]) for distribution, versions in supported.items() for version in versions
    }


def role(root: Path, task: dict[str, object], defaults: dict[str, object]) -> None:
    for folder, content in (("tasks", [task]), ("defaults", defaults)):
        path = root / "roles" / "new" / folder / "main.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


def test_a_new_role_is_found(tmp_path: Path) -> None:
    task = {"name": "Install", "trinode.platform.packages": {"name": "{{ new_packages }}"}}
    role(tmp_path, {"name": "Some", "block": [task]}, {"new_packages": ["a", "b"]})
    assert packages.role_packages(tmp_path, {})[0] == ["a", "b", "python3-apt"]


def test_a_list_that_cannot_be_known_is_an_error(tmp_path: Path) -> None:
    role(tmp_path, {"name": "Install", "trinode.platform.packages": {"name": "{{ new_found.packages }}"}}, {})
    with pytest.raises(packages.BundleError, match="the packages of the role new depend on more"):
        packages.role_packages(tmp_path, {})


# --- where from -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deb http://mirror.example/debian bookworm main contrib", "deb http://mirror.example/debian trixie main contrib"),
        (
            "deb [signed-by=/k.gpg arch=amd64] http://m.example/d bookworm-updates main # ours",
            "deb [signed-by=/k.gpg arch=amd64] http://m.example/d trixie-updates main",
        ),
        ("deb http://m.example/security bookworm-security main", "deb http://m.example/security trixie-security main"),
        ("# deb http://m.example/debian bookworm main", None),
        ("deb-src http://m.example/debian bookworm main", None),
        ("deb http://m.example/tools tools-bookworm main", None),
        ("deb http://m.example/debian bookworm-backports main", None),
        ("deb http://m.example/node nodistro main", None),
        ("deb file:/srv/own ./", None),
        ("", None),
    ],
)
def test_a_line_for_another_suite(line: str, expected: str | None) -> None:
    assert packages.translate_line(line, "bookworm", "trixie") == expected


SOURCES = """# The distribution
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQ
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://mirror.example/off
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://mirror.example/node
Suites: nodistro
Components: main
"""


def test_paragraphs_for_another_suite() -> None:
    assert packages.translate_paragraphs(SOURCES, "bookworm", "trixie").splitlines() == [
        "Types: deb",
        "URIs: http://mirror.example/debian",
        "Suites: trixie trixie-updates",
        "Components: main",
        "Signed-By: ",
        " -----BEGIN PGP PUBLIC KEY BLOCK-----",
        " .",
        " mQ",
        " -----END PGP PUBLIC KEY BLOCK-----",
    ]


def test_the_sources_of_a_machine(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://m.example/d bookworm main\ndeb http://m.example/n nodistro main\n")
    (tmp_path / "sources.list.d" / "x.sources").write_text(SOURCES)
    (tmp_path / "sources.list.d" / "y.list.disabled").write_text("deb http://m.example/d bookworm main\n")
    assert set(packages.machine_sources("bookworm", "bookworm", tmp_path)) == {"0.list", "1.sources"}
    with pytest.raises(packages.BundleError, match="names its suite sid"):
        packages.machine_sources("sid", "trixie", tmp_path)


def test_the_release_of_a_machine() -> None:
    assert packages.machine_release('NAME="Debian GNU/Linux"\nID=debian\nVERSION_CODENAME=bookworm\n') == ("debian", "bookworm")
    assert packages.machine_release('ID="ubuntu"\nVERSION_CODENAME="noble"\n') == ("ubuntu", "noble")


def test_an_unknown_suite_and_a_foreign_one_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(packages.BundleError, match="the suite 'sarge' is unknown"):
        packages.make(packages.Target("sarge", "amd64"), tmp_path, tmp_path, False, print)
    monkeypatch.setattr(packages, "machine_release", lambda: ("debian", "bookworm"))
    with pytest.raises(packages.BundleError, match="the packages of noble come from Ubuntu, and this machine is debian"):
        packages.make(packages.Target("noble", "amd64"), tmp_path, tmp_path, False, print)


# --- the archive ------------------------------------------------------------------------------------------------------


def test_names_without_epochs() -> None:
    assert packages.plain_name("iproute2_1%3a6.1-1_amd64.deb") == "iproute2_6.1-1_amd64.deb"
    assert packages.plain_name("nginx_1.22.1-9+deb12u1_amd64.deb") == "nginx_1.22.1-9+deb12u1_amd64.deb"


def test_release_is_the_last_member_and_equal_files_make_an_equal_archive(tmp_path: Path) -> None:
    directory = tmp_path / "index"
    directory.mkdir()
    for name in ("Release", "Packages", "zlib1g_1.deb", "nginx_1.deb"):
        (directory / name).write_text(name)
    packages.write_tar(directory, tmp_path / "1.tar")
    (directory / "nginx_1.deb").touch()
    packages.write_tar(directory, tmp_path / "2.tar")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    with tarfile.open(tmp_path / "1.tar") as archive:
        assert archive.getnames() == ["Packages", "nginx_1.deb", "zlib1g_1.deb", "Release"]


def test_packages_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    target = packages.Target("bookworm", "amd64")
    (tmp_path / target.name).write_text("archive")
    (tmp_path / f"{target.name}.sha256").write_text("sum")
    (tmp_path / f"{target.name}.recipe").write_text(packages.recipe(packages.package_sets(ROOT, target.facts)))
    said: list[str] = []
    assert packages.make(target, tmp_path, tmp_path, False, said.append) == tmp_path / target.name
    assert said == ["the packages of bookworm are there"]


# --- the bundle -------------------------------------------------------------------------------------------------------


def committed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o664
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("collections/here")
        link.type, link.linkname = tarfile.SYMTYPE, ".."
        archive.addfile(link)
    return buffer.getvalue()


def test_a_bundle_is_whole_and_is_not_written_twice(tmp_path: Path) -> None:
    source = bundle.Checkout("0123", 1_700_000_000, committed({"site.yml": b"---\n", "tools/bundle/install": b"#!/bin/sh\n"}), "1.2.3")
    big = tmp_path / "big"
    big.write_bytes(b"x" * 100)
    target = tmp_path / "out.tar"
    arguments = (target, source, {"artifacts/big": big}, {"BUNDLE": "version: 1.2.3\n"})
    assert bundle.write(*arguments) is True
    assert bundle.write(*arguments) is False
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "out.tar"]
    subprocess.run(["tar", "xf", str(target)], cwd=tmp_path, check=True)
    place = tmp_path / "trinode-platform-1.2.3"
    subprocess.run(["sha256sum", "--quiet", "--strict", "--check", "SHA256SUMS"], cwd=place, check=True)
    listed = {line.split("  ")[1] for line in (place / "SHA256SUMS").read_text().splitlines()}
    assert listed == {"site.yml", "tools/bundle/install", "install", "artifacts/big", "BUNDLE"}
    assert (place / "install").stat().st_mode & 0o777 == 0o755 and (place / "site.yml").stat().st_mode & 0o777 == 0o644
    assert (place / "collections" / "here").is_symlink()
    big.write_bytes(b"y" * 100)
    assert bundle.write(*arguments) is True


def test_what_the_mirror_lacks_is_named(tmp_path: Path) -> None:
    products = json.dumps({"products": [{"name": "consul", "version": "1.2.3", "default": True}, {"name": "consul", "version": "1.0.0", "default": False}]})
    names = [
        "consul/1.2.3/consul_1.2.3_linux_amd64.zip",
        "consul/1.2.3/consul_1.2.3_SHA256SUMS",
        "images/trinode-samples.tar",
        "images/trinode-samples.tar.json",
    ]
    for name in names:
        with pytest.raises(bundle.BundleError, match=name):
            bundle.mirror_files(tmp_path, "amd64", products)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(bundle.mirror_files(tmp_path, "amd64", products)) == sorted(names)


def test_wheels_that_are_there_are_not_downloaded_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in bundle.REQUIREMENTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    digests = [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in bundle.REQUIREMENTS]
    (tmp_path / "wheels.recipe").write_text("".join(["3.11 3.12\n", *digests]))
    bundle.wheels(wheels, ["3.11", "3.12"], tmp_path)
    assert "are there" in capsys.readouterr().out


def test_two_runs_do_not_meet(tmp_path: Path) -> None:
    with bundle.only_one(tmp_path), pytest.raises(bundle.BundleError, match="another run"), bundle.only_one(tmp_path):
        pass


def test_the_first_step_of_a_checkout_says_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "install").write_bytes((TOOLS / "install").read_bytes())
    done = subprocess.run(["sh", str(tmp_path / "install")], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: this is no unpacked bundle")


def test_the_first_step_refuses_another_python(tmp_path: Path) -> None:
    (tmp_path / "install").write_bytes((TOOLS / "install").read_bytes())
    (tmp_path / "BUNDLE").write_text("machine: x\nsuites: bookworm\npython: 2.7\n")
    done = subprocess.run(["sh", str(tmp_path / "install")], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "the bundle is for Python 2.7, and 'python3' is 3." in done.stderr


def test_pip_is_pinned_with_its_hash() -> None:
    text = (TOOLS / "pip.txt").read_text(encoding="utf-8")
    assert text.count("==") == 1 and "--hash=sha256:" in text
