# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What secure sites that know each other have in common."""

from __future__ import annotations

import datetime
import typing as t

from ansible.errors import AnsibleFilterError

from ..plugin_utils._sites import wan as logic


def _own(site: t.Any) -> logic.Site:
    if not isinstance(site, dict) or not all(isinstance(site.get(key), str) for key in logic.Site._fields):
        raise AnsibleFilterError(f"trinode.platform: a site has the texts {', '.join(logic.Site._fields)}")
    return logic.Site(**{key: str(site[key]).strip() for key in logic.Site._fields})


def wan_sites(site: t.Any, others: t.Any, directory: t.Any = "") -> dict[str, t.Any]:
    """Only converts arguments and the result."""
    if not isinstance(others, dict):
        raise AnsibleFilterError("trinode.platform.wan_sites: the others are a dictionary of texts by their data centres")
    now = datetime.datetime.now(datetime.timezone.utc)
    found = logic.common(_own(site), {str(name): str(text) for name, text in others.items()}, now, str(directory))
    return {**found._asdict(), "faults": [fault._asdict() for fault in found.faults], "warnings": [fault._asdict() for fault in found.warnings]}


def wan_site_file(site: t.Any) -> str:
    """Only converts arguments and errors."""
    try:
        return logic.write(_own(site))
    except logic.SiteError as error:
        raise AnsibleFilterError(f"trinode.platform.wan_site_file: this site {error}") from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """What Ansible looks for."""
        return {"wan_sites": wan_sites, "wan_site_file": wan_site_file}
