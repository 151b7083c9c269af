# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time-outs of a lookup, which two roles set, fit each other, and no default spreads lookups over all nodes."""

from __future__ import annotations

from pathlib import Path

import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"


def options() -> list[str]:
    """Return the default options of the hosts' resolver."""
    found: list[str] = yaml.safe_load((ROLES / "resolvconf_dns/defaults/main.yml").read_text(encoding="utf-8"))["resolvconf_dns_options"]
    return found


def timeouts() -> list[int]:
    """Return the time-outs in their order: musl takes the first one, glibc the last one."""
    return [int(option.partition(":")[2]) for option in options() if option.startswith("timeout:")]


def test_no_default_spreads_lookups_over_all_nodes() -> None:
    assert "rotate" not in options()


def test_a_server_that_does_not_answer_costs_glibc_a_second_at_most() -> None:
    assert timeouts()[-1] <= 1


def test_musl_waits_for_slow_names_of_the_world_as_long_as_by_its_own_default() -> None:
    """It takes the time for that of all tries together."""
    assert timeouts()[0] >= 5


def test_an_agent_asks_its_next_recursor_before_libc_gives_up_on_it() -> None:
    text = yaml.safe_load((ROLES / "consul_server/vars/main.yml").read_text(encoding="utf-8"))
    timeout = text["__consul_server_config_agent"]["dns_config"]["recursor_timeout"]
    assert timeout.endswith("ms") and int(timeout.removesuffix("ms")) < 1000 * timeouts()[-1]
