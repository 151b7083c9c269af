# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret is where somebody else reads it: no argument of a process, no log, no output, no catalogue, no file that everybody can read."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import lab
import pytest
import secure

PATTERNS = "/root/.secrets-of-the-test"


@pytest.fixture(scope="module", name="patterns")
def fixture_patterns() -> Iterator[list[str]]:
    """The secrets in a file of root's on each node, since to name them on a command line would be what is looked for."""
    found = secure.secrets()
    for node in lab.NODES:
        subprocess.run(
            ["docker", "exec", "-i", lab.container(node), "sh", "-c", f"umask 077; cat > {PATTERNS}"], input="\n".join(found) + "\n", text=True, check=True
        )
    yield found
    for node in lab.NODES:
        lab.run(node, f"rm -f {PATTERNS}")


def test_neither_arguments_nor_the_output_at_vvv(patterns: list[str], tmp_path: Path) -> None:
    with secure.Arguments() as arguments:
        # One after the other: a change of everything, and a run that only looks.
        lab.run("consul-2", "rm /etc/consul.d/tokens.json /etc/consul.d/tls/key.pem /etc/registrator/consul.token; rm -f /etc/consul-template.d/consul.token")
        runs = [
            secure.play("site", "-vvv", "--diff"),
            secure.play("renew_certificates", "-vvv", "--diff"),
            secure.play("acceptance", "-vvv", acceptance_sample_services=False, acceptance_report_dir=str(tmp_path)),
        ]
    assert [run.status for run in runs] == [0, 0, 0], [run.output[-3000:] for run in runs if run.status]
    for run in runs:
        assert secure.names_of(run.output, patterns) == []
    assert arguments.looks > 50
    assert secure.names_of("\n".join(arguments.seen), patterns) == []


def test_neither_while_they_are_rotated() -> None:
    """The new ones are known only afterwards."""
    with secure.Arguments() as arguments:
        run = secure.play("rotate_tokens", "-vvv", "--diff")
        gossip = secure.play("rotate_gossip_key", "-vvv", "--diff")
    assert run.status == 0 and gossip.status == 0, run.output[-3000:] + gossip.output[-3000:]
    for text in (run.output, gossip.output, "\n".join(arguments.seen)):
        assert secure.names_of(text, secure.secrets()) == []


@pytest.mark.parametrize("node", list(lab.NODES))
def test_neither_journals(node: str, patterns: list[str]) -> None:
    assert patterns
    assert int(lab.run(node, "journalctl --no-pager -o verbose | grep -c consul")) > 100, "there is no journal to speak of"
    # 1 is grep's word for having searched and found nothing; 0 would be a secret, 2 a search that failed.
    for search in (f"journalctl --no-pager -o verbose | grep -F -f {PATTERNS}", f"grep -r -l -D skip -F -f {PATTERNS} /var/log"):
        assert lab.run(node, f"{search} >/dev/null; echo $?") == "1", search


@pytest.mark.parametrize("node", list(lab.NODES))
def test_neither_files_that_everybody_can_read(node: str, patterns: list[str]) -> None:
    assert patterns
    everybody = (
        "setpriv --reuid nobody --regid nogroup --clear-groups find / /run /tmp /var/lib/docker -xdev -type f -readable -size -4096k -print0 2>/dev/null"
    )
    # The status of xargs only says that some file holds none; what the search is worth, the probe below says.
    assert lab.run(node, f"{everybody} | grep -zv '^/proc/' | xargs -0 grep -l -F -f {PATTERNS} 2>/dev/null || true") == ""
    # The right answer could be that the search finds nothing at all.
    probe = "/run/everybody-can-read-this"
    lab.run(node, f"head -n 1 {PATTERNS} > {probe}; chmod 644 {probe}")
    try:
        assert lab.run(node, f"{everybody} | xargs -0 grep -l -F -f {PATTERNS} 2>/dev/null || true") == probe
    finally:
        lab.run(node, f"rm -f {probe}")


def test_neither_the_catalogue_nor_the_store(patterns: list[str]) -> None:
    management = secure.token("management")
    for path in ("/v1/catalog/nodes", "/v1/catalog/services", "/v1/internal/ui/services", "/v1/health/state/any", "/v1/kv/?recurse", "/v1/agent/self"):
        assert secure.names_of(secure.ask("consul-1", path, management).body, patterns) == [], path


def test_the_control_node_keeps_them_for_itself() -> None:
    assert (lab.SECRETS.stat().st_mode & 0o777) == 0o700
    for path in lab.SECRETS.glob("*.txt"):
        assert (path.stat().st_mode & 0o777) == 0o600, path


@pytest.mark.parametrize("arguments", [[], ["--limit", "consul-2"], ["--tags", "registrator"], ["--tags", "consul_server"]], ids=str)
def test_a_machine_without_the_secrets_gives_the_cluster_no_new_ones(arguments: list[str], tmp_path: Path) -> None:
    """A copy of the inventory without its secrets: nothing is made there, and nothing is changed on the nodes."""
    elsewhere = tmp_path / "secrets"
    run = secure.play("site", *arguments, platform_secrets_directory=str(elsewhere))
    assert run.status != 0
    assert run.changed == 0, run.changes()
    assert "bring the directory" in " ".join(run.output.split()), run.output[-3000:]
    assert not elsewhere.exists(), sorted(elsewhere.iterdir())
