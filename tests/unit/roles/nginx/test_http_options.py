# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directives that the role writes into nginx's http context, rendered by Ansible."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[4] / "roles" / "nginx"
DEFAULTS = {
    "client_body_timeout": "15s",
    "client_header_timeout": "10s",
    "large_client_header_buffers": "4 64k",
    "reset_timedout_connection": "on",
    "server_names_hash_bucket_size": "512",
    "server_names_hash_max_size": "65536",
}


def directives(options: dict[str, t.Any]) -> dict[str, str]:
    """Return what is in front of the first server."""
    variables: dict[str, t.Any] = {}
    for name in ("defaults", "vars"):
        variables.update(DataLoader().load_from_file(str(ROLE / name / "main.yml"), trusted_as_template=True))
    variables.update(ansible_managed="managed", nginx_http_options=options)
    templar = Templar(loader=DataLoader(), variables=variables)
    source = (ROLE / "templates" / "http.conf.j2").read_text()
    text = str(templar.template(trust_as_template(source)))
    lines = [line for line in text.partition("server {")[0].splitlines() if line and not line.startswith("#")]
    assert all(line.endswith(";") for line in lines), lines
    return dict(line[:-1].split(" ", 1) for line in lines)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({}, {}),
        ({"client_max_body_size": "1m"}, {"client_max_body_size": "1m"}),
        ({"client_body_timeout": "60s"}, {"client_body_timeout": "60s"}),
        # As YAML reads on and off.
        ({"reset_timedout_connection": False, "tcp_nodelay": True}, {"reset_timedout_connection": "off", "tcp_nodelay": "on"}),
        ({"variables_hash_max_size": 4096, "keepalive_requests": 0}, {"variables_hash_max_size": "4096", "keepalive_requests": "0"}),
    ],
)
def test_one_option_leaves_the_others(options: dict[str, t.Any], changed: dict[str, str]) -> None:
    assert directives(options) == {**DEFAULTS, **changed}


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_value_leaves_one_out(empty: t.Any) -> None:
    assert directives({"client_body_timeout": empty}) == {name: value for name, value in DEFAULTS.items() if name != "client_body_timeout"}
