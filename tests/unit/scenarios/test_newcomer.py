# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of the README are found, and they are whole."""

from __future__ import annotations

import re
from pathlib import Path

import newcomer
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]

TEXT = f"""\
{newcomer.SECTION}

1. **One.** Text:

       first && second
       third

2. **Two.** Text
   that goes on:

       ansible-playbook site.yml

{newcomer.GALAXY}:

    pip install x
    ansible-playbook trinode.platform.site

Or `ansible-galaxy collection install ./trinode-platform-9.tar.gz`.

## Next

    not this
"""


def test_the_commands_of_a_text() -> None:
    guide = newcomer.guide(TEXT)
    assert guide.checkout == ["first && second", "third", "ansible-playbook site.yml"]
    assert guide.galaxy == ["pip install x", "ansible-playbook trinode.platform.site"]
    assert guide.tarball == "ansible-galaxy collection install ./trinode-platform-9.tar.gz"
    assert newcomer.preparation(guide.checkout) == (["first && second", "third"], ["ansible-playbook site.yml"])


@pytest.mark.parametrize("without", [newcomer.SECTION, newcomer.GALAXY, ".tar.gz"])
def test_a_text_that_lacks_a_part_is_an_error(without: str) -> None:
    with pytest.raises(AssertionError, match=r"README\.md has no"):
        newcomer.guide(TEXT.replace(without, "x"))


def test_the_readme_leads_to_the_acceptance_in_both_ways() -> None:
    guide = newcomer.guide(README)
    for commands, site, acceptance in (
        (guide.checkout, "site.yml", "playbooks/acceptance.yml"),
        (guide.galaxy, "trinode.platform.site", "trinode.platform.acceptance"),
    ):
        before, after = newcomer.preparation(commands)
        assert before and [command.split()[1] for command in after] == [site, acceptance]
    assert f"trinode-platform-{VERSION}.tar.gz" in guide.tarball


def test_the_readme_installs_what_requirements_say() -> None:
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if line and not line.startswith("#")}
    (install,) = (command for command in newcomer.guide(README).galaxy if command.startswith("pip install"))
    named = set(re.findall(r"[^\s']+", install.removeprefix("pip install")))
    # Ansible brings these two itself.
    assert named == {line for line in wanted if not line.startswith(("ansible-core", "cryptography"))}
