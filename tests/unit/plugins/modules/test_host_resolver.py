# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module on a host in a directory: what it takes back, with its memory and without."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.trinode.platform.plugins.module_utils._resolver import manager
from ansible_collections.trinode.platform.plugins.modules import host_resolver

OURS = "127.0.0.1"
PLAIN = "search klinik.example\nnameserver 10.0.0.1\noptions ndots:2\n"


class Host:
    """A host with systemd-resolved, which somebody else may have enabled or started."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.place = place / "root"
        self.unit = {"ActiveState": "inactive", "UnitFileState": "disabled"}
        self._state = place / "resolver.json"
        self._capsys = capsys
        #: What the module warned of.
        self.warnings: list[str] = []
        monkeypatch.setattr(host_resolver.AnsibleModule, "warn", lambda _module, text: self.warnings.append(text))
        (self.place / "proc").mkdir(parents=True)
        system = manager.System(self._run, str(self.place))
        monkeypatch.setattr(host_resolver, "System", lambda _run: system)
        self.put("/etc/resolv.conf", PLAIN)
        self.put("/usr/lib/systemd/systemd-resolved", "")
        self.put("/proc/1/stat", f"1 (x) {' '.join(['0'] * 50)}")
        self.put("/proc/uptime", "0.0 0.0\n")

    def put(self, path: str, text: str) -> None:
        """Write a file of the host."""
        file = self.place / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def text(self, path: str) -> str:
        """Return the text of a file of the host."""
        return (self.place / path[1:]).read_text(encoding="utf-8")

    def forget(self) -> None:
        """Lose the memory."""
        self._state.unlink()

    def call(self, state: str, *, check: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        """Run the module."""
        given = {
            "servers": [OURS],
            "options": ["timeout:1"],
            "state_file": str(self._state),
            **arguments,
            "state": state,
        }
        with patch_module_args({**given, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            host_resolver.main()
        return t.cast("dict[str, t.Any]", json.loads(self._capsys.readouterr().out))

    def _run(self, command: list[str]) -> tuple[int, str, str]:
        verb, unit = command[1], command[-1]
        if verb == "show":
            return 0, "".join(f"{key}={value}\n" for key, value in {"MainPID": "1", **self.unit}.items()), ""
        if verb == "is-active":
            return 0, "active\n", ""
        if unit == "systemd-resolved.service":
            if verb == "restart":
                self.put("/run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53\n")
                self.put("/run/systemd/resolve/resolv.conf", f"nameserver {OURS}\n")
            self.unit["ActiveState"] = {"restart": "active", "stop": "inactive"}.get(verb, self.unit["ActiveState"])
            files = {"enable": "enabled", "disable": "disabled"}
            self.unit["UnitFileState"] = files.get(verb, self.unit["UnitFileState"])
        return 0, "", ""


@pytest.fixture(name="host")
def fixture_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    return Host(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("active", "enabled"),
    [("inactive", "disabled"), ("inactive", "enabled"), ("active", "disabled")],
)
def test_systemd_resolved_is_as_before(host: Host, active: str, enabled: str) -> None:
    before = host.unit = {"ActiveState": active, "UnitFileState": enabled}
    before = dict(before)
    done = host.call("present", backend="resolved")
    assert done["changed"] and host.unit == {"ActiveState": "active", "UnitFileState": "enabled"}, done
    assert host.call("present", backend="resolved")["changed"] is False
    assert host.call("absent")["changed"]
    assert host.unit == before
    assert host.text("/etc/resolv.conf") == PLAIN
    assert host.call("absent")["changed"] is False


def test_systemd_resolved_that_was_there_goes_on(host: Host) -> None:
    host.unit = {"ActiveState": "active", "UnitFileState": "enabled"}
    host.call("present", backend="resolved")
    host.call("absent")
    assert host.unit == {"ActiveState": "active", "UnitFileState": "enabled"}


def test_systemd_resolved_that_would_not_start_at_boot_is_repaired(host: Host) -> None:
    host.call("present", backend="resolved")
    host.unit["UnitFileState"] = "disabled"
    again = host.call("present", backend="resolved")
    assert again["reasons"] == ["systemd-resolved does not start at boot"]
    assert host.unit["UnitFileState"] == "enabled"


def test_a_first_run_that_fails_leaves_no_systemd_resolved_behind(host: Host) -> None:
    failed = host.call("present", backend="resolved", proof_names=["nowhere.invalid"], proof_timeout=0)
    assert failed["failed"] and "The former configuration is back in place" in failed["msg"], failed
    assert host.unit == {"ActiveState": "inactive", "UnitFileState": "disabled"}
    assert host.text("/etc/resolv.conf") == PLAIN


def test_a_lost_memory_keeps_the_lines_of_the_site(host: Host) -> None:
    host.call("present", search=["service.consul"])
    written = host.text("/etc/resolv.conf")
    assert "search klinik.example service.consul\n" in written
    host.forget()
    assert host.warnings == []
    host.call("present", search=["service.consul"])
    assert host.text("/etc/resolv.conf") == written
    (warning,) = host.warnings
    assert "resolver.json, where the former configuration of the resolver was remembered, is lost" in warning
    # What is this role's gives way to another value, what is the site's does not.
    host.call("present", search=[], options=["timeout:2"])
    text = host.text("/etc/resolv.conf")
    assert "search klinik.example\n" in text and "options ndots:2 timeout:2\n" in text


@pytest.mark.parametrize("check", [False, True])
def test_a_file_whose_former_one_is_lost_is_not_left_behind_in_silence(host: Host, check: bool) -> None:
    host.call("present")
    host.forget()
    refused = host.call("absent", check=check)
    assert refused["failed"] and "write the site's name servers into /etc/resolv.conf" in refused["msg"], refused
    host.put("/etc/resolv.conf", PLAIN)
    assert host.call("absent", check=check)["changed"] is False


def test_the_settings_of_a_manager_are_taken_out_without_a_memory(host: Host) -> None:
    host.call("present", backend="resolved", reverse_names={"10.0.0.9": "srv9.klinik.example"})
    host.forget()
    assert host.call("absent", check=True)["changed"]
    done = host.call("absent")
    assert done["changed"] and "/etc/systemd/resolved.conf.d/60-resolvconf-dns.conf is put back" in done["reasons"]
    assert not (host.place / "etc/systemd/resolved.conf.d").exists()
    assert "srv9" not in host.text("/etc/hosts")
    assert host.call("absent")["changed"] is False
