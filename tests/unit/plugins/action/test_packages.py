# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When apt is called, and how, by a host that answers as apt's module does."""

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.trinode.platform.plugins.action.packages import APT, MEMORY, ActionModule

INSTALLED = "The following NEW packages will be installed:\n  nginx nginx-common\n"


class Host(ActionModule):
    """A host with packages, and what its lists know before and after an update; apt takes lists that look new for new ones."""

    def __init__(self, installed: set[str], known: set[str], reachable: set[str] | None, check_mode: bool = False, look_new: bool = False) -> None:
        self.look_new = look_new
        self._task = types.SimpleNamespace(check_mode=check_mode)
        self._vars: dict[str, t.Any] = {}
        self.installed, self.known, self.reachable = installed, known, reachable
        self.listed, self.broken = ["nginx", "nginx-common"], False
        self.calls: list[tuple[str, dict[str, t.Any], bool]] = []

    def _execute_module(self, module_name: str, module_args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        assert task_vars is self._vars
        check = self._task.check_mode
        self.calls.append((module_name, module_args, check))
        if module_name == MEMORY:
            return {"changed": True, "packages": self.listed}
        if module_args.get("state") == "absent":
            if self.broken:
                return {"failed": True, "msg": "dpkg was interrupted"}
            self.installed -= set(module_args["name"])
            return {"changed": True}
        assert module_name == APT and module_args["install_recommends"] is False
        if module_args["update_cache"] and not check and not (self.look_new and module_args["cache_valid_time"]):
            if self.reachable is None:
                return {"failed": True, "msg": "Failed to update apt cache"}
            self.known |= self.reachable
        missing = set(module_args["name"]) - self.installed
        if not missing:
            return {"changed": False}
        if missing - self.known:
            return {"failed": True, "msg": f"No package matching '{min(missing - self.known)}' is available"}
        if not check:
            self.installed |= missing
        return {"changed": True, "stdout": INSTALLED}

    def ask(self, **arguments: t.Any) -> dict[str, t.Any]:
        return self._install({"name": ["nginx"], "owner": "nginx", "state": "present", "update_lists": True, "policy_rc_d": None, **arguments})

    @property
    def apt(self) -> list[tuple[bool, bool]]:
        """Whether each call of apt updated, and whether it was in check mode."""
        return [(arguments["update_cache"], check) for name, arguments, check in self.calls if name == APT]


@pytest.mark.parametrize("update_lists", [True, False])
def test_where_nothing_is_missing_one_look_is_all(update_lists: bool) -> None:
    host = Host({"nginx"}, set(), None)
    assert host.ask(update_lists=update_lists) == {"changed": False}
    assert host.apt == [(False, True)]
    assert host._task.check_mode is False


def test_what_is_missing_is_installed_from_new_lists_and_remembered() -> None:
    host = Host(set(), set(), {"nginx"})
    result = host.ask(policy_rc_d=101)
    assert result["changed"] and result["remembered"] == ["nginx", "nginx-common"]
    assert host.apt == [(False, True), (True, False)]
    assert host.calls[-1][:2] == (MEMORY, {"owner": "nginx", "apt_output": INSTALLED})
    assert host.calls[1][1]["policy_rc_d"] == 101


def test_lists_that_know_the_package_are_valid_for_an_hour() -> None:
    host = Host(set(), {"nginx"}, {"nginx"})
    assert host.ask()["changed"]
    assert host.apt == [(False, True), (True, False)] and host.calls[1][1]["cache_valid_time"] == 3600


@pytest.mark.parametrize("state", ["present", "latest"])
def test_lists_that_only_look_new_are_updated(state: str) -> None:
    """As where the source that knew the package was removed a moment ago."""
    assert Host(set(), set(), {"nginx"}, look_new=True).ask(state=state)["changed"]


def test_a_bundle_is_enough_where_nothing_can_be_reached() -> None:
    host = Host(set(), {"nginx"}, None)
    assert host.ask(update_lists=False)["changed"]
    assert host.apt == [(False, True), (False, False)]


def test_what_the_bundle_does_not_know_is_looked_for_elsewhere() -> None:
    host = Host(set(), set(), {"nginx"})
    assert host.ask(update_lists=False)["changed"]
    assert host.apt == [(False, True), (False, False), (True, False)]


def test_where_an_update_does_not_help_there_is_no_second_one() -> None:
    host = Host(set(), set(), {"other"})
    assert "No package matching 'nginx'" in host.ask()["msg"]
    assert host.apt == [(False, True), (True, False)]


def test_both_reasons_are_told_when_it_is_nowhere() -> None:
    result = Host(set(), set(), None).ask(update_lists=False)
    assert result["failed"] and "No package matching 'nginx'" in result["msg"] and "Failed to update apt cache" in result["msg"]


@pytest.mark.parametrize("known", [set(), {"nginx"}])
def test_check_mode_only_looks(known: set[str]) -> None:
    host = Host(set(), known, {"nginx"}, check_mode=True)
    result = host.ask()
    assert result["changed"] and not result.get("failed")
    assert [check for _update, check in host.apt] == [True] and len(host.calls) == 1


def test_the_latest_is_looked_for_in_new_lists() -> None:
    host = Host({"nginx"}, set(), {"nginx"})
    host.ask(state="latest")
    assert host.apt == [(True, False)]


def test_the_latest_of_a_bundle_needs_no_update() -> None:
    host = Host({"nginx"}, {"nginx"}, None)
    assert host.ask(state="latest", update_lists=False) == {"changed": False}
    assert host.apt == [(False, True)]


def test_without_an_owner_nothing_is_remembered() -> None:
    host = Host(set(), {"nginx"}, set())
    assert host.ask(owner=None)["changed"]
    assert MEMORY not in [name for name, _arguments, _check in host.calls]


def test_what_a_role_installed_is_removed_and_its_list_cleared() -> None:
    host = Host({"nginx", "nginx-common", "vim"}, set(), None)
    assert host._remove({"owner": "nginx", "keep": []}) == {"changed": True, "removed": ["nginx", "nginx-common"]}
    assert host.installed == {"vim"}
    assert host.calls[1][:2] == (APT, {"name": ["nginx", "nginx-common"], "state": "absent", "purge": True})
    assert host.calls[-1][:2] == (MEMORY, {"owner": "nginx", "state": "absent"})


def test_a_package_to_keep_stays_and_is_no_longer_listed() -> None:
    host = Host({"nginx", "nginx-common"}, set(), None)
    assert host._remove({"owner": "nginx", "keep": ["nginx"]})["removed"] == ["nginx-common"]
    assert host.installed == {"nginx"} and host.calls[-1][1]["state"] == "absent"


def test_only_packages_to_keep_cost_no_call_of_apt() -> None:
    host = Host({"nginx"}, set(), None)
    host.listed = ["nginx"]
    assert host._remove({"owner": "nginx", "keep": ["nginx"]}) == {"changed": True, "removed": []}
    assert host.apt == []


def test_a_role_that_installed_nothing_removes_nothing() -> None:
    host = Host({"nginx"}, set(), None)
    host.listed = []
    assert host._remove({"owner": "nginx", "keep": []}) == {"changed": False, "removed": []}
    assert host.installed == {"nginx"} and len(host.calls) == 1


def test_the_list_stays_when_apt_fails() -> None:
    host = Host({"nginx", "nginx-common"}, set(), None)
    host.broken = True
    assert host._remove({"owner": "nginx", "keep": []}) == {"failed": True, "msg": "dpkg was interrupted"}
    assert len(host.calls) == 2
