# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No mistake of an inventory ends in an error of Ansible: each is one line with host, value and remedy, and nothing is printed thrice."""

from __future__ import annotations

import contextlib
import operator
import re
import typing as t
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import yaml
from ansible import context
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.utils.context_objects import CLIArgs
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from control_node import Control, inventory, lines_thrice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mistakes import MISTAKES, Mistake

from ansible_collections.trinode.platform.plugins.plugin_utils._preflight import site_check

#: Inventories, each with one to three mistakes.
INVENTORIES = 300
#: Pairs of parts that stand in each other's way: the second one is not looked for, or is looked for otherwise, where the first one is wrong.
HIDING = {
    ("domain", "edge-domain"),
    ("edge-domain", "edge-group"),
    ("edge-only", "edge-group"),
    ("docker-only", "docker-group"),
    ("address-1", "servers"),
}


@pytest.fixture(scope="module", autouse=True)
def _command_line() -> Iterator[None]:
    """Ansible's command line, as ansible-playbook leaves it."""
    before = context.CLIARGS
    context.CLIARGS = CLIArgs({"syntax": False})
    yield
    context.CLIARGS = before


def check(place: Path, content: t.Mapping[str, t.Any]) -> str:
    """Check an inventory as the first play of site.yml does, in this process; return the report."""
    file = place / "hosts.yml"
    file.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")
    loader = DataLoader()
    found = InventoryManager(loader=loader, sources=[str(file)])
    manager = VariableManager(loader=loader, inventory=found)
    hostvars = HostVars(found, manager, loader)
    variables = {
        **manager.get_vars(host=found.get_hosts()[0]),
        "hostvars": hostvars,
        "ansible_inventory_sources": (str(file),),
        "ansible_limit": None,
    }
    request = site_check.Request(complete=True, secrets="none", limit="", everything="", confirm="", needs=())
    display = mock.Mock()
    with (
        mock.patch.multiple(site_check._Process, site=None, security="", passed=set()),
        mock.patch.object(site_check, "Display", return_value=display),
        # It takes filters of other collections, which only a run of ansible-playbook finds; see test_through_the_playbook.
        mock.patch.object(site_check.Site, "_edge", return_value=[]),
    ):
        templar = Templar(loader, variables=variables)
        with contextlib.suppress(SystemExit):
            # Without a host, Ansible knows no variable of the inventory.
            play = {key: variables[key] for key in ("groups", "ansible_inventory_sources", "ansible_limit")}
            site_check.checked_file(request, play, templar, loader)
            site_check.checked_file(request, variables, templar, loader)
    assert display.error.call_count <= 1
    return "\n".join(str(call.args[0]) for call in display.error.call_args_list)


def combined(chosen: t.Sequence[Mistake]) -> dict[str, t.Any]:
    content = inventory()
    for one in sorted(chosen, key=lambda one: MISTAKES.index(one)):
        one.spoil(content)
    return content


def together(chosen: t.Sequence[Mistake]) -> bool:
    """Return whether none of these mistakes hides another one."""
    parts = [one.part for one in chosen]
    return len(set(parts)) == len(parts) and not any(set(pair) <= set(parts) for pair in HIDING)


def named(report: str, mistake: Mistake) -> bool:
    """Return whether one line of the report says all that is expected."""
    return any(all(text in line for text in mistake.expected) for line in report.splitlines())


def well_told(report: str, chosen: t.Sequence[Mistake]) -> None:
    """Require that the report names each mistake once, and is no error of Ansible."""
    assert report.startswith("Preflight found "), report
    lines = [line for line in report.splitlines() if re.match(r"\d+\. ", line)]
    assert len({line.partition(". ")[2] for line in lines}) == len(lines), report
    for line in lines:
        # What is wrong, and what to do.
        assert line.endswith(".") and "; " in line, line
    for one in chosen:
        assert named(report, one), f"{one.name}: {one.expected} is in no line of\n{report}"


def test_an_inventory_without_a_mistake_passes(tmp_path: Path) -> None:
    assert check(tmp_path, inventory()) == ""


@pytest.mark.parametrize("mistake", MISTAKES, ids=operator.attrgetter("name"))
def test_each_mistake_alone(tmp_path: Path, mistake: Mistake) -> None:
    well_told(check(tmp_path, combined([mistake])), [mistake])


@settings(
    max_examples=INVENTORIES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
@given(chosen=st.lists(st.sampled_from(MISTAKES), min_size=1, max_size=3, unique=True).filter(together))
def test_up_to_three_mistakes_at_once(tmp_path: Path, chosen: list[Mistake]) -> None:
    well_told(check(tmp_path, combined(chosen)), chosen)


def test_the_description_of_the_edge(control: Control) -> None:
    """It is made of all the rest, so it is checked when nothing else is wrong."""
    wrong = {"platform_edge": {"listen_adresses": ["192.0.2.1"], "max_services": "many"}}
    outcome = control.play("site.yml", "--tags", "edge,consul_server", variables=wrong)
    outcome.refused(
        "2 problems.",
        "consul-1 and consul-2: platform_edge is wrong: 'listen_adresses' is not a known key",
        "max_services: 'many' is not allowed",
        "correct platform_edge",
    )


def test_an_edge_that_is_made_of_facts(control: Control) -> None:
    content = inventory()
    content["all"]["vars"]["platform_edge"] = {"listen_addresses": ["{{ ansible_facts.eth1.ipv4.address }}"]}
    control.write(content)
    control.play("site.yml").refused(
        "1. consul-1 and consul-2: platform_edge (site/hosts.yml:",
        "is made of facts of the host (ansible_facts), and is needed before the first connection; write the value itself",
    )


def sample() -> list[list[Mistake]]:
    """Return inventories that have each mistake once, three at a time."""
    left, found = list(MISTAKES), []
    while left:
        chosen: list[Mistake] = []
        for one in list(left):
            if len(chosen) < 3 and together([*chosen, one]):
                chosen.append(one)
                left.remove(one)
        found.append(chosen)
    return found


@pytest.mark.parametrize("chosen", sample(), ids=lambda chosen: " + ".join(one.name for one in chosen)[:80])
def test_through_the_playbook(control: Control, chosen: list[Mistake]) -> None:
    control.write(combined(chosen))
    outcome = control.play("site.yml")
    outcome.refused()
    well_told(outcome.output[outcome.output.index("Preflight found") :], chosen)
    assert lines_thrice(outcome.output) == []
