# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role registrator does about a token that a real Consul knows, or does not: run by Ansible itself."""

from __future__ import annotations

import typing as t
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import Consul, free_port, tool
from local_play import Done, play

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl

TOKEN, UNKNOWN = str(uuid.uuid4()), str(uuid.uuid4())
PLAY = """
- name: Token
  hosts: all
  gather_facts: false
  vars_files: [ROLE/defaults/main.yml, ROLE/vars/main.yml]
  tasks:
    - name: Check the token
      ansible.builtin.import_tasks: ROLE/tasks/token.yml
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[str]:
    """An agent that knows one token."""
    agent = Consul(tool("consul", "CONSUL_BIN"), tmp_path_factory.mktemp("token"), acl={"enabled": True, "default_policy": "deny"})
    try:
        address = f"http://{agent.address}"
        assert acl.bootstrap(acl.AclApi(address, TOKEN), 30).state == "made"
        yield address
    finally:
        agent.stop()


def run(directory: Path, *arguments: str, **variables: t.Any) -> Done:
    """Run the role's tasks."""
    return play(directory, PLAY.replace("ROLE", str(ROOT / "roles" / "registrator")), *arguments, registrator_hostname="node1", **variables)


def test_a_token_that_consul_knows_is_taken(url: str, tmp_path: Path) -> None:
    done = run(tmp_path, registrator_consul_url=url, registrator_consul_token=TOKEN)
    assert done.status == 0 and "changed=0" in done.text, done.output


def test_a_token_that_consul_does_not_know_is_refused(url: str, tmp_path: Path) -> None:
    """Whoever would write it would end the registration on this host."""
    done = run(tmp_path, "-vvv", registrator_consul_url=url, registrator_consul_token=UNKNOWN)
    assert done.status == 2, done.output
    assert "n1: Consul does not know the token in registrator_consul_token, so nothing was changed" in done.text
    assert UNKNOWN not in done.text
    done = run(tmp_path, "--check", registrator_consul_url=url, registrator_consul_token=UNKNOWN)
    assert done.status == 0, "before the first run there is no token"


def test_an_agent_that_is_down_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """The engine waits for it."""
    done = run(tmp_path, registrator_consul_url=f"http://127.0.0.1:{free_port()}", registrator_consul_token=TOKEN)
    assert done.status == 0, done.output


def test_without_tokens_nothing_is_asked(tmp_path: Path) -> None:
    done = run(tmp_path, registrator_consul_url="http://192.0.2.1:1", registrator_consul_token="")
    assert done.status == 0 and "skipped=2" in done.text, done.output
