# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of roles that the check of a site reads before Ansible does."""

from __future__ import annotations

from ansible._internal._datatag._tags import TrustedAsTemplate
from ansible.parsing.dataloader import DataLoader

from ansible_collections.trinode.platform.plugins.plugin_utils._preflight import site_check


def test_variables_of_a_role_stay_templates_after_the_check_has_read_them() -> None:
    """Ansible takes a file that its loader has read already, and evaluates no text that was read as data."""
    loader = DataLoader()
    site_check._Process.specs = None
    site_check._specifications(loader)
    ports = loader.load_from_file(str(site_check.SHARED))["__preflight_ports"]
    assert TrustedAsTemplate.is_tagged_on(ports)
