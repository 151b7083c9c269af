# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install the packages of a role, or remove those that it installed."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ..module_utils._host.packages import installed_by

APT = "ansible.builtin.apt"
MEMORY = "trinode.platform.packages_memory"
# Seconds for which lists count as new, so that the roles of one run update them once.
LISTS_VALID = 3600


class ActionModule(ActionBase):
    """Call apt, and keep the list of what a role installed."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Entry point of the action."""
        self._vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, self._vars)
        _validation, args = self.validate_argument_spec(
            argument_spec={
                "name": {"type": "list", "elements": "str"},
                "owner": {"type": "str"},
                "state": {"type": "str", "choices": ["present", "latest", "absent"], "default": "present"},
                "keep": {"type": "list", "elements": "str", "default": []},
                "update_lists": {"type": "bool", "default": True},
                "policy_rc_d": {"type": "int"},
            },
            required_if=[("state", "present", ["name"]), ("state", "latest", ["name"]), ("state", "absent", ["owner"])],
        )
        try:
            result.update(self._remove(args) if args["state"] == "absent" else self._install(args))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        if result.get("failed"):
            result["msg"] = f"{self._vars.get('inventory_hostname', 'this host')}: {result.get('msg', 'apt failed')}"
        return result

    def _remove(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Remove what the owner installed, and clear its list only when that worked."""
        listed = self._call(MEMORY, {"owner": args["owner"]})
        if listed.get("failed") or not listed["packages"]:
            return listed if listed.get("failed") else {"changed": False, "removed": []}
        names = [name for name in listed["packages"] if name not in args["keep"]]
        done = self._call(APT, {"name": names, "state": "absent", "purge": True}) if names else {}
        if done.get("failed"):
            return done
        cleared = self._call(MEMORY, {"owner": args["owner"], "state": "absent"})
        return cleared if cleared.get("failed") else {**done, "changed": True, "removed": names}

    def _install(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Call apt in check mode, and again without it only when something is missing."""
        wanted = {"name": args["name"], "state": args["state"], "install_recommends": False}
        if args["policy_rc_d"] is not None:
            wanted["policy_rc_d"] = args["policy_rc_d"]
        # A newer version is not known before the lists are.
        blind = args["state"] == "latest" and args["update_lists"] and not self._task.check_mode
        # Lists that do not know a package are not new enough, however new they look: it may be that something was removed from them.
        unknown = False
        if not blind:
            look = self._apt(wanted, update=False, check=True)
            if not look.get("failed") and not look.get("changed"):
                return {"changed": False}
            if self._task.check_mode:
                # A package that no list knows yet is missing all the same.
                return {key: value for key, value in look.items() if key in ("stdout", "stdout_lines", "diff")} | {"changed": True}
            unknown = bool(look.get("failed"))
        forced = args["update_lists"] and unknown
        done = self._apt(wanted, update=args["update_lists"], valid=0 if forced else LISTS_VALID)
        if done.get("failed") and not forced:
            again = self._apt(wanted, update=True, valid=0)
            if again.get("failed"):
                again["msg"] = f"{done.get('msg', '')} (and with newer package lists: {again.get('msg', '')})"
            done = again
        if args["owner"] and not done.get("failed") and installed_by(done.get("stdout", "")):
            memory = self._call(MEMORY, {"owner": args["owner"], "apt_output": done["stdout"]})
            if memory.get("failed"):
                return memory
            done["remembered"] = memory.get("packages", [])
        return done

    def _apt(self, wanted: dict[str, t.Any], update: bool, valid: int = LISTS_VALID, check: bool = False) -> dict[str, t.Any]:
        # Said either way: without a word, apt's module would update the lists when it has to install its own library.
        lists = {"update_cache": True, "cache_valid_time": valid} if update else {"update_cache": False}
        if not check:
            return self._call(APT, {**wanted, **lists})
        before = self._task.check_mode
        self._task.check_mode = True
        try:
            return self._call(APT, {**wanted, **lists})
        finally:
            self._task.check_mode = before

    def _call(self, module: str, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        answer: dict[str, t.Any] = self._execute_module(module_name=module, module_args=arguments, task_vars=self._vars)
        # It is this action's arguments that were given.
        answer.pop("invocation", None)
        return answer
