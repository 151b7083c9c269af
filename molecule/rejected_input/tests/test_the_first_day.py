# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After all that is refused, a newcomer with a bare control node follows README.md, command by command.

Once with a checkout, from bare nodes to the acceptance, and once with the tarball and an inventory of their own. This
is the last file of the scenario, because then the nodes are no longer bare.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lab
import newcomer
import pytest
import yaml
from control import HOME

GUIDE = newcomer.guide((lab.ROOT / "README.md").read_text(encoding="utf-8"))
#: Without acceptance_disruptive, checks 9 and 10 leave the services alone.
PROVEN = set(range(1, 13)) - {9, 10}


@pytest.fixture(scope="module", name="source")
def fixture_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository."""
    return newcomer.repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module", name="person")
def fixture_person(source: Path) -> Iterator[newcomer.Newcomer]:
    """Somebody at a bare machine, for whom the address of the repository leads to this checkout."""
    person = newcomer.Newcomer()
    person.start()
    newcomer.allow_sudo()
    person.begin()
    newcomer.bring(source, f"{HOME}/platform.git")
    galaxy = yaml.safe_load((lab.ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    lines = f'[url "file://{HOME}/platform.git"]\n    insteadOf = {galaxy["repository"]}\n'
    lab.run("control", f"cat > {HOME}/.gitconfig", given=lines)
    yield person
    person.remove()


@pytest.fixture(scope="module", name="checkout")
def fixture_checkout(person: newcomer.Newcomer) -> newcomer.Newcomer:
    """The first three steps, and what the person writes into the inventory."""
    before, _after = newcomer.preparation(GUIDE.checkout)
    assert before
    for command in before:
        person.type(command)
    settings = person.type("ls -d $PWD/inventories/hospital/group_vars/all.yml").output.strip()
    person.change_settings(
        settings,
        hospital_network=lab.NETWORK,
        platform_artifact_mirror=newcomer.mirror(),
        platform_public_names=lab.PUBLIC_NAMES,
    )
    return person


@pytest.fixture(scope="module", name="site")
def fixture_site(checkout: newcomer.Newcomer) -> dict[int, str]:
    """The other steps: the platform on bare nodes, and the acceptance; the status of each check."""
    _before, after = newcomer.preparation(GUIDE.checkout)
    runs = [checkout.type(command) for command in after]
    assert [bool(run.changed) for run in runs] == [True, False], [run.changes() for run in runs]
    assert all(set(run.recap) == set(lab.NODES) for run in runs)
    place = checkout.type("pwd").output.strip()
    return newcomer.verdicts(f"{place}/reports/acceptance.json")


def test_the_readme_leads_from_a_bare_machine_to_the_acceptance(site: dict[int, str]) -> None:
    assert {number for number, status in site.items() if status == "passed"} >= PROVEN, site
    assert "failed" not in site.values(), site


def test_git_ignores_what_the_first_day_leaves(site: dict[int, str], checkout: newcomer.Newcomer) -> None:
    """Secrets and reports; what the person wrote into the inventory is theirs to commit."""
    assert site
    assert checkout.type("git status --porcelain").output.split() == ["M", "inventories/hospital/group_vars/all.yml"]


@pytest.mark.usefixtures("site")
def test_the_tarball_finds_the_site_as_it_is(checkout: newcomer.Newcomer, source: Path, tmp_path: Path) -> None:
    """With the settings and the secrets of the site, the other way of installation has nothing to change."""
    archive = newcomer.tarball(tmp_path, source)
    newcomer.bring(archive, f"{HOME}/{archive.name}")
    first = checkout.type("ls -d $PWD/inventories/hospital").output.strip()
    person = newcomer.Newcomer("galaxy")
    person.begin()
    before, after = newcomer.preparation(GUIDE.galaxy)
    assert sum(command.startswith("ansible-galaxy collection install trinode.platform") for command in before) == 1
    for command in before:
        person.type(GUIDE.tarball if command.startswith("ansible-galaxy") else command)
    person.type(f"cp -r {first}/. {HOME}/hospital/")
    runs = [person.type(command) for command in after]
    assert [run.changed for run in runs] == [0, 0], [run.changes() for run in runs]
    verdicts = newcomer.verdicts(f"{HOME}/reports/acceptance.json")
    assert {number for number, status in verdicts.items() if status == "passed"} >= PROVEN, verdicts
    assert "failed" not in verdicts.values(), verdicts
