# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No choice of tags gives an agent its configuration without the checks and the secrets that belong to it."""

from __future__ import annotations

import functools
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.trinode.platform.plugins.plugin_utils._preflight import security_rules as rules

ROOT = Path(__file__).resolve().parents[2]
#: The playbooks that give agents a configuration and have tags. The others are whole or not at all.
PLAYBOOKS = ("site.yml", "upgrade.yml")
BLOCKS = ("block", "rescue", "always")
INCLUDES = ("include_tasks", "import_tasks", "include_role", "import_role")


class Loader(yaml.SafeLoader):
    """Reads Ansible's own tags as plain values."""


Loader.add_multi_constructor("!", lambda loader, _tag, node: loader.construct_scalar(node))


class Task(t.NamedTuple):
    """A task, or an include, with what it is in."""

    file: str
    name: str
    #: One set of tags for each dynamic include around it, and its own. All of them must be chosen.
    tags: tuple[frozenset[str], ...]

    def chosen(self, run: set[str], skip: set[str]) -> bool:
        """Return whether Ansible plays it with these tags."""
        return all(_chosen(own, run, skip) for own in self.tags)


def _chosen(own: frozenset[str], run: set[str], skip: set[str]) -> bool:
    by_kind = "tagged" in run if own else "untagged" in run
    wanted = not run or "all" in run or bool(own & run) or "always" in own or by_kind
    return wanted and not own & skip and not ("tagged" in skip and own)


def tags_of(item: dict[str, t.Any]) -> frozenset[str]:
    """Return the tags of a play, a task or an include."""
    tags = item.get("tags") or []
    return frozenset([tags] if isinstance(tags, str) else tags)


def tasks(items: t.Iterable[dict[str, t.Any]], place: Path, outer: tuple[frozenset[str], ...]) -> t.Iterator[Task]:
    """Find all tasks, in includes and roles, too."""
    for item in items or ():
        *dynamic, own = outer
        tags = (*dynamic, own | tags_of(item))
        if any(key in item for key in BLOCKS):
            for key in BLOCKS:
                yield from tasks(item.get(key) or (), place, tags)
            continue
        key = next((key for key in item if key.rpartition(".")[2] in INCLUDES), None)
        if key is None:
            yield Task(str(place.relative_to(ROOT)), str(item["name"]), tags)
            continue
        static = key.rpartition(".")[2].startswith("import")
        given = item[key]
        apply = tags_of(given.get("apply") or {}) if isinstance(given, dict) else frozenset()
        path = included(key, given, place)
        # What is in a dynamic include has the tags of what is around that, and not its own.
        yield from tasks(load(path), path, tags if static else (*tags, own | apply))


@functools.cache
def load(path: Path) -> t.Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def included(key: str, given: t.Any, place: Path) -> Path:
    """Return the file of an include."""
    if key.endswith("_tasks"):
        return place.parent / (given if isinstance(given, str) else given["file"])
    return role_file(given["name"], given.get("tasks_from", "main"))


def role_file(name: str, entry: str = "main") -> Path:
    return ROOT / "roles" / name.rpartition(".")[2] / "tasks" / f"{entry}.yml"


@functools.cache
def all_tasks(playbook: str) -> tuple[Task, ...]:
    path = ROOT / "playbooks" / playbook
    found: list[Task] = []
    for play in load(path):
        outer = (tags_of(play),)
        for part in ("pre_tasks", "tasks", "post_tasks"):
            found += tasks(play.get(part) or (), path, outer)
        for role in play.get("roles") or ():
            file = role_file(role["role"])
            found += tasks(load(file), file, (outer[0] | tags_of(role),))
    return tuple(found)


def known(playbook: str) -> list[str]:
    return sorted({tag for task in all_tasks(playbook) for own in task.tags for tag in own} - {"always", "never"})


def of(playbook: str, *places: str) -> list[Task]:
    return [task for task in all_tasks(playbook) if task.file.startswith(places)]


def left_out(playbook: str, run: set[str], skip: set[str]) -> list[str]:
    """Return the checks, and what makes secrets, that these tags leave out of a run that configures agents."""
    agent = of(playbook, "roles/consul_server/tasks/main.yml")
    configuring = [task for task in agent if "consul_server_configure" in task.tags[-1]]
    assert configuring
    if not any(task.chosen(run, skip) for task in configuring) or list(rules.part_problems(run, skip, "", secure=True)):
        return []
    needed = of(playbook, "playbooks/tasks/stage.yml")
    assert len(needed) == 2
    if not rules.uses_secrets(run, skip):
        needed += of(playbook, "playbooks/tasks/secrets.yml", "roles/consul_tls/tasks/", "roles/consul_acl/tasks/")
    return [task.name for task in needed if not task.chosen(run, skip)]


@pytest.mark.parametrize("playbook", PLAYBOOKS)
@pytest.mark.parametrize("skip", ["", "always", "tagged", "consul_server_health"])
def test_a_tag_leaves_no_check_out(playbook: str, skip: str) -> None:
    for run in ["", "tagged", "untagged", *known(playbook)]:
        assert left_out(playbook, {run} - {""}, {skip} - {""}) == [], f"--tags {run} --skip-tags {skip}"


@pytest.mark.parametrize("playbook", PLAYBOOKS)
@pytest.mark.parametrize("run", ["", "consul_server", "consul_server_configure"])
def test_a_skipped_tag_leaves_no_check_out(playbook: str, run: str) -> None:
    for skip in known(playbook):
        assert left_out(playbook, {run} - {""}, {skip}) == [], f"--tags {run} --skip-tags {skip}"


def test_the_check_of_this_test() -> None:
    """The tags of the site are found through includes and roles."""
    some = {"preflight", "consul_tls", "consul_acl", "consul_server_configure", "registrator_configure", "edge"}
    assert some <= {*known("site.yml")}
    assert of("site.yml", "roles/consul_tls/tasks/authority.yml")
