# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the engine to a registrator container and back, in place, by the playbook that a site uses.

No registrator image can be had without a registry, so an image that only sleeps shows how the container is made: its arguments, volume and network.
What such a container leaves in the agent is made by hand.
"""

from __future__ import annotations

import itertools
import json
import shlex
import typing as t

import lab
import pytest
import secure
from registration import IMAGE, Node

PLAYBOOK = "playbooks/replace_registrator.yml"
STANDIN = "registrator-standin:1"
CONTAINER = {"registrator_mode": "container", "registrator_image": STANDIN, "registrator_image_pull": "never"}
SECRET = "5ec4e7-0f-the-web-service"

# Looks ten times a second, for as long as the file is there, and writes down how many instances there are.
WATCH = f"""{lab.ASK}
touch /run/reg-watch
while [ -e /run/reg-watch ]; do
    ask '/v1/health/service/reg-kept?passing' | grep -o serfHealth | wc -l
    sleep 0.1
done > /run/reg-watched
"""


def replace(node: Node, *arguments: str, **variables: t.Any) -> lab.Play:
    return lab.play(PLAYBOOK, "--limit", node.name, *arguments, variables=variables)


def succeeded(play: lab.Play) -> lab.Play:
    assert play.status == 0, play.output[-6000:]
    return play


@pytest.fixture(name="engine_node")
def fixture_engine_node(node: Node) -> t.Iterator[Node]:
    """The node, on which the engine runs again afterwards, whatever became of it."""
    yield node
    if node.run("systemctl is-active registrator", check=False) != "active":
        succeeded(replace(node))


@pytest.fixture(name="standin")
def fixture_standin(engine_node: Node) -> Node:
    """The same, with an image in the place of registrator's."""
    engine_node.run(
        f'printf \'FROM {IMAGE}\\nENTRYPOINT ["/bin/sh", "-c", "exec sleep 3600", "registrator"]\\n\' | DOCKER_BUILDKIT=0 docker build -q -t {STANDIN} -'
    )
    return engine_node


def test_container_and_back_without_a_gap(standin: Node) -> None:
    node = standin
    node.start("kept", "-P --expose 80 -l SERVICE_NAME=reg-kept")
    node.start("ill", "-P --expose 80 -l SERVICE_NAME=reg-ill -l SERVICE_WARMUP=1h --health-cmd false --health-interval 1s --health-retries 1")
    node.settled()
    assert sorted(own_checks(node)) == ["docker", "warmup"]
    registered = node.catalogue()
    assert succeeded(replace(node, "--check", **CONTAINER)).changed > 0
    assert node.run("systemctl is-active registrator") == "active", "check mode must change nothing"
    node.run(f"systemd-run --quiet --collect --unit reg-watch sh -c {shlex.quote(WATCH)}")
    try:
        succeeded(replace(node, **CONTAINER))
        again = succeeded(replace(node, **CONTAINER))
        assert again.changed == 0, again.changes()
        document = json.loads(node.run("docker inspect registrator"))[0]
        assert document["Config"]["Cmd"] == ["-ip", node.address, "-cleanup", "-resync", "30", "-retry-attempts", "-1", "consul://127.0.0.1:8500"]
        assert document["HostConfig"]["NetworkMode"] == "host"
        assert document["HostConfig"]["Binds"] == ["/var/run/docker.sock:/tmp/docker.sock:rw"]
        assert document["HostConfig"]["RestartPolicy"]["Name"] == "always"
        for path in ("/etc/systemd/system/registrator.service", "/usr/local/lib/registrator", "/usr/local/bin/registrator", "/etc/registrator"):
            assert node.run(f"ls -d {path} 2>/dev/null", check=False) == "", path
        assert node.catalogue() == registered
        assert not own_checks(node), "nobody would change them any more"
        succeeded(replace(node, **CONTAINER, registrator_container_preset="seed"))
        is_the_seeds_own_line(node)

        # While the container is in charge: one registration is its own, one of its containers goes without its notice.
        node.run("docker rm -f reg-ill")
        identity, held = next((key, held) for key, held in node.agent_services().items() if held["Service"] == "reg-kept")
        body = {"Name": "reg-kept", "Port": held["Port"], "Address": held["Address"]}
        node.put("/v1/agent/service/register", {"ID": identity, **body})
        node.put("/v1/agent/service/register", {"ID": f"{node.name}:reg-gone:80", "Name": "reg-gone", "Port": 7})
        node.put("/v1/agent/service/register", {"ID": "reg-foreign", "Name": "reg-foreign", "Port": 7})

        back = succeeded(replace(node, "-vvv", platform_protected_services=["reg-web"]))
        secret = secure.token("service-reg-web")
        assert secret not in back.output
        assert node.run("docker ps -aq --filter name=^registrator$") == ""
        assert set(node.agent_services()) == {identity, "reg-foreign"}, "what it left of dead containers goes, and nothing else"
        assert "registrator-managed" in node.agent_services()[identity]["Meta"]
    finally:
        node.run("rm -f /run/reg-watch")
        node.forget("reg-foreign", f"{node.name}:reg-gone:80")
    watched = node.run("cat /run/reg-watched").split()
    assert len(watched) > 50, "nobody watched"
    assert set(watched) == {"1"}, f"a gap, or a double entry: {[key for key, _group in itertools.groupby(watched)]}"

    # The tokens are for the service and root alone.
    assert node.run("stat -c '%U %G %a' /etc/registrator/tokens /etc/registrator/tokens/reg-web").splitlines() == [
        "root registrator 750",
        "root registrator 640",
    ]
    assert secret not in node.run("cat /proc/[0-9]*/cmdline /etc/registrator/config.json; journalctl -o cat --since -10min | sed /COMMAND=/d")


def own_checks(node: Node) -> list[str]:
    """What is left of the ids of the checks that only the engine keeps true."""
    return [key.rpartition(":")[2] for key in node.api("/v1/agent/checks") if key.startswith(f"service:{node.name}:") and key.endswith((":docker", ":warmup"))]


def is_the_seeds_own_line(node: Node) -> None:
    """The container equals the one that the seed's own line makes, typed by hand."""
    made = json.loads(node.run("docker inspect registrator"))[0]
    node.run("docker rm -f registrator")
    node.run(f"docker run --restart=always -d --name=registrator --net=host --volume=/var/run/docker.sock:/tmp/docker.sock {STANDIN} consul://localhost:8500")
    typed = json.loads(node.run("docker inspect registrator"))[0]
    assert made["Config"]["Cmd"] == typed["Config"]["Cmd"] == ["consul://localhost:8500"]
    assert made["Config"]["Image"] == typed["Config"]["Image"]
    # Consul takes nothing from somebody without a token.
    assert made["Config"]["Env"] == [f"CONSUL_HTTP_TOKEN={secure.token(f'registrator-{node.name}')}", *typed["Config"]["Env"]]
    assert [made["HostConfig"][key] for key in ("NetworkMode", "RestartPolicy")] == [typed["HostConfig"][key] for key in ("NetworkMode", "RestartPolicy")]
    assert made["HostConfig"]["Binds"] == [bind + ":rw" for bind in typed["HostConfig"]["Binds"]]


def test_what_is_broken_or_left_over_is_put_right(engine_node: Node) -> None:
    node = engine_node
    broken = "echo broken > /usr/local/lib/registrator/registrator/loop.py"
    node.run(f"{broken}; rm /etc/systemd/system/registrator.service; systemctl stop registrator")
    node.run(
        "mkdir -p /etc/registrator/tokens && touch /etc/registrator/tokens/old /usr/local/lib/registrator/old.py && echo old > /etc/registrator/consul.token"
    )
    assert succeeded(replace(node)).changed > 0
    assert node.run("systemctl is-active registrator") == "active"
    assert node.run("ls /etc/registrator").split() == ["config.json", "consul.token"]
    assert node.run("cat /etc/registrator/consul.token") == secure.token(f"registrator-{node.name}")
    assert node.run("ls /usr/local/lib/registrator") == "registrator"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({**CONTAINER, "registrator_image_arguments": ["consul://localhost:8500", "-cleanup"]}, "ignores every option after a URI"),
        ({"registrator_docker_socket": "/run/no-docker.sock"}, "Docker on consul-3 does not answer at /run/no-docker.sock"),
        ({"registrator_service_tokens": {"web": SECRET}}, "would replace what the playbooks set for the role registrator"),
    ],
    ids=["words that registrator would not read", "docker that does not answer", "a token that the playbooks do not give"],
)
def test_bad_input_is_named_before_anything_changes(node: Node, variables: dict[str, t.Any], words: str) -> None:
    play = replace(node, **variables)
    assert play.status != 0
    assert words in " ".join(play.output.split())
    assert SECRET not in play.output
    assert play.changed == 0, play.changes()
    assert node.run("systemctl is-active registrator") == "active"
