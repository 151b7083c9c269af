# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of the site's variables is complete, and its values are those of the inventory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROWS = dict(
    re.findall(
        r"^\| `(platform_\w+)` \|\s*([^|]*?)\s*\|",
        (ROOT / "docs" / "variables.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)
KNOWN = yaml.safe_load((ROOT / "roles" / "preflight" / "vars" / "main.yml").read_text(encoding="utf-8"))
HOSPITAL = yaml.safe_load((ROOT / "inventories" / "hospital" / "group_vars" / "all.yml").read_text(encoding="utf-8"))
#: How the page writes a value that says little as it is.
WRITTEN = {
    "{{ ansible_host }}": "`ansible_host`",
    "https://releases.hashicorp.com": "official releases",
    "": "empty",
    "[]": "none",
}


def test_every_variable_that_a_site_may_set_is_listed() -> None:
    assert set(ROWS) == set(KNOWN["__preflight_shared_variables"]["platform"])


@pytest.mark.parametrize("name", ROWS)
def test_the_value_is_the_one_of_the_hospital(name: str) -> None:
    value = str(HOSPITAL[name]) if name in HOSPITAL else None
    assert ROWS[name] == ("" if value is None else WRITTEN.get(value, f"`{value}`"))
