# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of the units: what nginx may do, and that the apply program tests a change under the same conditions."""

from __future__ import annotations

import shutil
import subprocess
import typing as t
from pathlib import Path

import jinja2
import pytest
import yaml

ROLE = Path(__file__).resolve().parents[4] / "roles" / "nginx"
PATHS = ["/srv/logs", "/home/site/logs"]


def rendered(name: str) -> str:
    """Return the text of a template with the role's defaults."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False)
    environment.filters["comment"] = lambda text: f"# {text}"
    values: dict[str, t.Any] = {"ansible_managed": "x"}
    for kind in ("defaults", "vars"):
        values |= yaml.safe_load((ROLE / kind / "main.yml").read_text())
    values["nginx_writable_paths"] = PATHS
    return environment.from_string((ROLE / "templates" / f"{name}.j2").read_text()).render(**values)


def settings(unit: str) -> dict[str, list[str]]:
    """Return the settings of a unit's template, each with its values in their order."""
    text = rendered(unit)
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture(name="fence")
def fixture_fence() -> dict[str, list[str]]:
    """The drop-in of nginx's own unit."""
    return settings("nginx.service.d.conf")


def test_nginx_runs_where_its_changes_are_tested(fence: dict[str, list[str]]) -> None:
    """A path that only one of them can write is a change that passes the test and does not come up."""
    tested = settings("nginx-edge-apply.service")
    for name in ("ProtectSystem", "ProtectHome", "PrivateDevices"):
        assert fence[name] == tested[name], name
    assert fence["ReadWritePaths"] == [f"-{path}" for path in PATHS] and set(fence["ReadWritePaths"]) < set(tested["ReadWritePaths"])
    assert "PrivateTmp" not in tested and "PrivateTmp" not in fence


def test_what_nginx_needs_is_left(fence: dict[str, list[str]]) -> None:
    kept = {name for line in fence["CapabilityBoundingSet"] for name in line.split()}
    # Of the master: logs and temporary files of another user, ports below 1024, the change to that user, and signals to it.
    assert kept >= {f"CAP_{name}" for name in ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_RESOURCE"]}
    assert set(fence["RestrictAddressFamilies"][0].split()) >= {"AF_UNIX", "AF_INET", "AF_INET6"}
    # pcre_jit and Lua write code, and a filter of what is allowed would have to know every module.
    assert "MemoryDenyWriteExecute" not in fence and fence["SystemCallFilter"][0].startswith("~")
    # A path that a host does not have must not keep nginx from starting.
    for name in ("ReadOnlyPaths", "ReadWritePaths"):
        assert all(path.startswith("-/") for line in fence[name] for path in line.split()), name


def test_what_makes_root_of_a_taken_nginx_is_out_of_reach(fence: dict[str, list[str]]) -> None:
    kept = {name for line in fence["CapabilityBoundingSet"] for name in line.split()}
    assert not kept & {f"CAP_{name}" for name in ["SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "MKNOD", "SYS_BOOT", "DAC_READ_SEARCH", "BPF"]}
    for name in ("NoNewPrivileges", "RestrictNamespaces", "RestrictSUIDSGID", "ProtectKernelTunables", "ProtectKernelModules"):
        assert fence[name] == ["yes"], name
    closed = {path.lstrip("-") for line in fence["ReadOnlyPaths"] for path in line.split()}
    assert closed >= {"/var/spool/cron", "/run/systemd", "/var/lib/dpkg", "/var/lib/nginx-edge"}


def test_a_start_of_the_host_and_nothing_else_forgets_what_was_staged(tmp_path: Path) -> None:
    """A package that is installed has systemd-tmpfiles run, too. A mark that an earlier start left is made anew."""
    program = shutil.which("systemd-tmpfiles")
    if program is None:
        pytest.skip("systemd-tmpfiles is not here")
    (tmp_path / "tmpfiles.conf").write_text(rendered("tmpfiles.conf"))
    mark, staging, root = tmp_path / "root/run/nginx-edge/boot", tmp_path / "root/var/lib/nginx-edge/staging", tmp_path / "root/etc"
    for folder in (mark.parent, staging, root):
        folder.mkdir(parents=True)
    for name in ("passwd", "group"):
        shutil.copy(f"/etc/{name}", root)
    mark.write_text("late")
    for name in ("http.conf", "stream.conf"):
        (staging / name).write_text("x")
    command = [program, "--create", "--remove", f"--root={tmp_path / 'root'}", str(tmp_path / "tmpfiles.conf")]
    subprocess.run(command, check=True)
    assert mark.read_text() == "late" and len(list(staging.iterdir())) == 2
    subprocess.run([*command, "--boot"], check=True)
    assert mark.read_text() == "" and list(staging.iterdir()) == []


def test_what_answers_requests_goes_before_what_prepares_changes(fence: dict[str, list[str]]) -> None:
    """Weights count only while processors are short. 100 is what a container has, and whatever names none."""
    consul_template = (ROLE.parent / "consul_template" / "templates" / "consul-template.service.j2").read_text()
    weights = [int(one) for one in (*fence["CPUWeight"], *settings("nginx-edge-apply.service")["CPUWeight"])]
    weights += [int(line.partition("=")[2]) for line in consul_template.splitlines() if line.startswith("CPUWeight=")]
    assert len(weights) == 3 and weights[0] > 100 > weights[1] > weights[2]
