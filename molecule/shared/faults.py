# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can happen to a site, one function for each fault. Each is a block: it does harm, proves that the harm was done and says how that was seen, and at
the end of the block lets go of it, or waits until what was killed is back by itself. Whatever could not be injected raises.

Everything happens inside of the nodes' containers; of this machine, neither clock nor rules nor disks are touched.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import time
import typing as t

import lab
from callers import ECHO_PORT, WEB, everywhere

Proof = t.Iterator[str]
BACK_SECONDS = 120.0


class NotInjected(AssertionError):
    """The fault did not happen, so nothing was tried."""


def _until(look: t.Callable[[], t.Any], what: str, seconds: float = 20) -> t.Any:
    """The proof of a fault."""
    try:
        return lab.wait_for(look, seconds, what)
    except AssertionError as error:
        raise NotInjected(f"the fault was not injected: {error}") from error


def docker(*arguments: str) -> str:
    """The engine that the nodes run on."""
    done = subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}"
    return done.stdout.strip()


def shown(node: str, unit: str, name: str) -> str:
    """A property of a unit."""
    return lab.run(node, f"systemctl show --property {name} --value {unit}")


def is_active(node: str, unit: str) -> bool:
    """Whether a unit runs."""
    return shown(node, unit, "ActiveState") == "active"


def everything_runs() -> bool:
    """Whether every unit of the platform runs, without a hand."""
    units = {
        node: ["consul", "docker", "registrator", *(["nginx", "consul-template", "nginx-edge-apply.socket"] if node in lab.EDGES else [])] for node in lab.NODES
    }
    return all(lab.run(node, f"systemctl is-active --quiet {' '.join(names)} && echo yes", check=False) == "yes" for node, names in units.items())


# Instances ---------------------------------------------------------------------------------------------------------------


def _process(node: str, container: str) -> str:
    return lab.run(node, f"docker inspect -f '{{{{.State.Pid}}}}' {container}")


@contextlib.contextmanager
def instance_killed(node: str) -> Proof:
    """The process of an instance dies; Docker starts it again."""
    before = _process(node, WEB)
    lab.run(node, f"kill -9 {before}")
    _until(lambda: lab.run(node, f"kill -0 {before} 2>/dev/null || echo gone") == "gone", "the process is gone")
    yield f"process {before} of {WEB} on {node} is gone"
    lab.wait_for(lambda: _process(node, WEB) not in ("0", before), BACK_SECONDS, f"{node}: Docker has started {WEB} again")


@contextlib.contextmanager
def instance_stopped(node: str) -> Proof:
    """`docker stop`."""
    lab.run(node, f"docker stop -t 20 {WEB}")
    try:
        _until(lambda: _process(node, WEB) == "0", "the instance does not run")
        yield f"{WEB} on {node} has ended"
    finally:
        lab.run(node, f"docker start {WEB}")


# Processes ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def unit_killed(node: str, unit: str) -> Proof:
    """`kill -9` of a unit's main process, which is back by itself."""
    before = shown(node, unit, "MainPID")
    lab.run(node, f"kill -9 {before}")
    _until(lambda: lab.run(node, f"kill -0 {before} 2>/dev/null || echo gone") == "gone", f"{unit} is gone")
    yield f"process {before} of {unit} on {node} is gone"
    lab.wait_for(
        lambda: shown(node, unit, "MainPID") not in ("0", before) and is_active(node, unit),
        BACK_SECONDS,
        f"{node}: {unit} is back by itself",
        lambda: lab.journal(node, unit),
    )


def leader() -> str:
    """The node that leads, as another one sees it."""
    for node in lab.NODES:
        address = lab.run(node, "curl -s -m 3 http://127.0.0.1:8500/v1/status/leader", check=False).strip('"').partition(":")[0]
        for name, own in lab.NODES.items():
            if own == address:
                return name
    raise AssertionError("nobody leads")


def make_leader(node: str) -> None:
    """Let a node lead."""

    def look() -> bool:
        if leader() == node:
            return True
        peers = json.loads(lab.run(node, f"{lab.ASK} ask /v1/operator/raft/configuration"))["Servers"]
        identity = next(peer["ID"] for peer in peers if peer["Node"] == node)
        lab.run(node, f"{lab.ASK} ask '/v1/operator/raft/transfer-leader?id={identity}' -X POST", check=False)
        return False

    lab.wait_for(look, 60, f"{node} leads")


@contextlib.contextmanager
def leader_killed() -> Proof:
    """`kill -9` of the leader's agent."""
    with unit_killed(leader(), "consul") as proof:
        yield f"{proof}; it led"


@contextlib.contextmanager
def follower_killed() -> Proof:
    """`kill -9` of another server's agent."""
    with unit_killed(next(node for node in lab.NODES if node != leader()), "consul") as proof:
        yield f"{proof}; it did not lead"


@contextlib.contextmanager
def docker_away(node: str, order: str) -> Proof:
    """The engine is restarted or killed, and comes back by itself; its containers live on."""
    lab.run(node, "systemctl reset-failed docker docker.socket", check=False)
    before, instance = shown(node, "docker", "MainPID"), _process(node, WEB)
    lab.run(node, order)
    _until(lambda: shown(node, "docker", "MainPID") not in ("0", before) and is_active(node, "docker"), "Docker is another process", 60)
    yield f"Docker on {node} was process {before}, and is {shown(node, 'docker', 'MainPID')}"
    assert lab.wait_for(lambda: _process(node, WEB), 30, "Docker answers") == instance, f"{node}: {WEB} did not live on"


@contextlib.contextmanager
def servers_stopped() -> Proof:
    """No Consul anywhere."""
    everywhere(lambda node: lab.run(node, "systemctl stop consul"))
    try:
        _until(lambda: not any(is_active(node, "consul") for node in lab.NODES), "no server runs")
        yield "consul is not active on any node"
    finally:
        everywhere(lambda node: lab.run(node, "systemctl start --no-block consul"))


# Whole nodes -------------------------------------------------------------------------------------------------------------

# What the engine below does to a container at each start and no real server knows: see prepare.yml.
_BOOT_UNIT = """
[Unit]
Description=Makes the container a server again after a start
DefaultDependencies=no
Before=sysinit.target systemd-sysctl.service docker.service consul.service

[Service]
Type=oneshot
ExecStart=/bin/mount --make-rshared /
ExecStart=/bin/sh -c 'mount -o remount,rw /proc/sys; mountpoint -q /etc/resolv.conf && umount /etc/resolv.conf; true'

[Install]
WantedBy=sysinit.target
"""


def prepare_boot(node: str) -> None:
    """Let the node put its mounts right by itself at each start, before the platform starts."""
    lab.run(
        node, f"printf %s {shlex.quote(_BOOT_UNIT)} > /etc/systemd/system/lab-boot.service && systemctl daemon-reload && systemctl enable -q lab-boot.service"
    )


def is_up(node: str) -> bool:
    """Whether the node's container runs."""
    return docker("inspect", "-f", "{{.State.Running}}", lab.container(node)) == "true"


def power_on(*nodes: str) -> None:
    """Start nodes that are off, and see that they have their address."""
    for node in nodes:
        if not is_up(node):
            docker("start", lab.container(node))
        addresses = json.loads(docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", lab.container(node)))
        assert lab.NODES[node] in {network["IPAddress"] for network in addresses.values()}, f"{node}: {addresses}"


@contextlib.contextmanager
def nodes_lost(*nodes: str) -> Proof:
    """The power is cut, and comes back at the end of the block."""
    docker("kill", *(lab.container(node) for node in nodes))
    try:
        _until(lambda: not any(is_up(node) for node in nodes), "the nodes are off")
        yield f"the containers of {', '.join(nodes)} do not run"
    finally:
        power_on(*nodes)


@contextlib.contextmanager
def alone_after_power_cut(node: str) -> Proof:
    """The power of all nodes is cut, and comes back on one: without a leader, its containers run nevertheless."""
    with nodes_lost(*lab.NODES):
        power_on(node)
        lab.wait_for(lambda: _process(node, WEB) not in ("", "0"), 120, f"{node}: {WEB} runs", lambda: lab.journal(node, "docker", "registrator"))
        leader = lab.run(node, "curl -s -m 5 http://127.0.0.1:8500/v1/status/leader", check=False)
        assert leader.strip('"') == "" or "No cluster leader" in leader, f"the others are off, and {leader} leads"
        yield f"{node} is up, has no leader, and runs {WEB}"


# The network of a node ---------------------------------------------------------------------------------------------------

_CHAINS = {"in": "PREROUTING -i", "out": "POSTROUTING -o"}


def _interface(node: str) -> str:
    return lab.run(node, f"ip -o -4 addr show | awk '$4 ~ /^{lab.NODES[node].replace('.', '[.]')}\\//{{print $2}}'")


@contextlib.contextmanager
def packets_lost(node: str, directions: t.Sequence[str], percent: int = 100) -> Proof:
    """Packets from (in) or to (out) the other machines are dropped, all or some by chance; those for containers too."""
    chance = "" if percent == 100 else f"-m statistic --mode random --probability {percent / 100}"
    rules = [f"{_CHAINS[direction]} {_interface(node)} {chance} -m comment --comment fault -j DROP" for direction in directions]
    for rule in rules:
        lab.run(node, f"iptables -t mangle -I {rule}")
    try:
        dropped = {}
        for direction in directions:
            chain = _CHAINS[direction].split()[0]
            look = f"iptables -t mangle -nvxL {chain} | awk '/fault/{{print $1}}'"
            dropped[direction] = _until(lambda look=look: int(lab.run(node, look)), f"packets are dropped in {chain}")
        yield ", ".join(f"{node} had dropped {count} packets ({direction}) within moments" for direction, count in dropped.items())
    finally:
        for rule in rules:
            lab.run(node, f"iptables -t mangle -D {rule}")


@contextlib.contextmanager
def link_throttled(node: str, rate: str = "1mbit") -> Proof:
    """What the node sends is held to a rate."""
    device = _interface(node)
    lab.run(node, f"tc qdisc add dev {device} root tbf rate {rate} burst 16kb latency 200ms")
    try:
        sent = _until(
            lambda: "qdisc tbf" in (said := lab.run(node, f"tc -s qdisc show dev {device}")) and "Sent 0 bytes" not in said and " ".join(said.split()),
            "the filter has sent something",
        )
        yield f"{node}: {sent}"
    finally:
        lab.run(node, f"tc qdisc del dev {device} root")


# Disk, clock, memory -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(node: str, directory: str, room: str, *units: str) -> t.Iterator[str]:
    """A directory lies on a disk of its own, with its content and so much room; the units see the change because they are started anew.

    The path of a file that fills it comes back.
    """
    below = f"{directory}.below"
    names = " ".join(units)
    try:
        lab.run(
            node,
            # Private, or what is mounted over the directory would be mounted there as well.
            f"set -e; systemctl stop {names}; mkdir {below}; mount --bind {directory} {below}; mount --make-private {below}\n"
            f"used=$(du -sk --apparent-size {directory} | cut -f1)\n"
            f"mount -t tmpfs -o size=$((used + {room}))k,mode=$(stat -c %a {directory}) tmpfs {directory}; chown --reference={below} {directory}\n"
            f"cp -a {below}/. {directory}/; systemctl start {names}",
        )
        yield f"{directory}/filler"
    finally:
        # What was written meanwhile goes back to the disk below.
        lab.run(
            node,
            f"systemctl stop {names}; rm -f {directory}/filler\n"
            f"if mountpoint -q {directory}; then find {below} -mindepth 1 -delete; cp -a {directory}/. {below}/; umount {directory}; fi\n"
            f"if mountpoint -q {below}; then umount {below}; fi; rmdir {below}; systemctl reset-failed {names}; systemctl start {names}",
        )


def fill(node: str, filler: str) -> bool:
    """Fill the disk up; whether it is full."""
    command = f"rm -f {filler}.more; cat /dev/zero >> {filler} 2>/dev/null; echo more > {filler}.more 2>/dev/null && cat {filler}.more || echo full"
    return lab.run(node, command) == "full"


@contextlib.contextmanager
def disk_full(node: str, filler: str) -> Proof:
    """Not a byte is left."""
    # What is still being removed there makes room again, so it is filled until it stays full.
    try:
        _until(lambda: fill(node, filler), "nothing more can be written")
        yield lab.run(node, f"rm -f {filler}.more; df -k --output=size,used,avail,target $(dirname {filler}) | tail -n 1 | xargs echo")
    finally:
        lab.run(node, f"rm -f {filler} {filler}.more")


def said_since(node: str, since: str, word: str, *units: str) -> str:
    """The first line of the units' journal with a word, in whatever case."""
    which = " ".join(f"-u {unit}" for unit in units)
    for line in lab.run(node, f"journalctl --no-pager -o cat {which} --since '{since}'", check=False).splitlines():
        if word in line.lower():
            return line[:300]
    return ""


def clock(node: str) -> str:
    """The time of a node, for its journal."""
    return lab.run(node, "date '+%F %T'")


_FAKETIME = "libfaketime.so.1"


def install_faketime(node: str) -> str:
    """The library that shifts the clock of one process; gives its path."""
    lab.run(
        node, f"find /usr/lib -name {_FAKETIME} | grep -q . || {{ apt-get update -qq; apt-get install -qqy --no-install-recommends libfaketime; }} >/dev/null"
    )
    return lab.run(node, f"find /usr/lib -name {_FAKETIME} | head -n 1")


@contextlib.contextmanager
def clock_shifted(node: str, unit: str, shift: str, seen: t.Callable[[], float], whole: bool = False) -> Proof:
    """A unit's clock goes wrong by so much (+1h, -1h); ``seen`` tells its time, in seconds since the epoch.

    The unit is started anew to get its clock, and to lose it. With ``whole``, its monotonic clock has another beginning, too: without that, the library
    breaks Python's time.sleep(), and with it, Python's waiting for another thread.
    """
    library = install_faketime(node)
    drop_in = f"/run/systemd/system/{unit}.service.d/fault-clock.conf"
    text = f"[Service]\\nEnvironment=LD_PRELOAD={library} FAKETIME={shift}{'' if whole else ' FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1'}\\n"
    lab.run(node, f"mkdir -p $(dirname {drop_in}) && printf '{text}' > {drop_in} && systemctl daemon-reload && systemctl restart {unit}")
    wanted = 3600 * int(shift[:-1])
    try:
        off = _until(lambda: abs(found := seen() - time.time() - wanted) < 600 and f"{wanted + found:+.0f}", f"{unit} has another time", 60)
        yield f"{unit} on {node} is {off} s off"
    finally:
        lab.run(node, f"rm {drop_in}; systemctl daemon-reload; systemctl restart {unit}")


@contextlib.contextmanager
def memory_limited(node: str, unit: str, limit: str) -> Proof:
    """A unit gets less memory than it needs. Its journal names the end of each process: as killed, and with cgroup v2 as killed for want of memory."""
    since = clock(node)
    before = int(shown(node, unit, "NRestarts"))
    lab.run(node, f"systemctl set-property --runtime {unit} MemoryMax={limit}; systemctl kill -s KILL {unit}")
    try:
        _until(lambda: int(shown(node, unit, "NRestarts")) > before + 1, f"{unit} ends again and again", 60)
        assert shown(node, unit, "MemoryMax") != "infinity"
        error = said_since(node, since, "failed to start", unit) or said_since(node, since, "failed with result", unit)
        yield f"{unit} on {node} with MemoryMax={limit} was started again {int(shown(node, unit, 'NRestarts')) - before} times; the journal says: {error}"
    finally:
        lab.run(node, f"systemctl set-property --runtime {unit} MemoryMax=infinity; systemctl reset-failed {unit}; systemctl start --no-block {unit}")


# The catalogue -----------------------------------------------------------------------------------------------------------

# Whoever does harm here has got hold of the registrator's token; in the open form there is none to get.
_STOLEN = 'export CONSUL_HTTP_TOKEN="$(cat /etc/registrator/consul.token 2>/dev/null)"; '
_AGENT = """
import http.client, json, os, sys, urllib.parse
agent = http.client.HTTPConnection("127.0.0.1", 8500)
def ask(method, path, body=None):
    agent.request(method, path, body, {"X-Consul-Token": os.environ["CONSUL_HTTP_TOKEN"]})
    answer = agent.getresponse()
    return answer.status, answer.read()
def forget(prefix):
    for identity in json.loads(ask("GET", "/v1/agent/services")[1]):
        if identity.startswith(prefix):
            ask("PUT", "/v1/agent/service/deregister/" + urllib.parse.quote(identity, safe=""))
"""


def _at_agent(script: str) -> str:
    """The command for a script that asks the node's agent."""
    return f"{_STOLEN}python3 -c {shlex.quote(_AGENT + script)}"


@contextlib.contextmanager
def catalogue_wiped() -> Proof:
    """Every service is deregistered at once, and nobody registers it again before the end of the block."""
    everywhere(lambda node: lab.run(node, "systemctl stop registrator"))
    try:
        everywhere(lambda node: lab.run(node, _at_agent("forget('')")))
        listed = _at_agent("print(ask('GET', '/v1/catalog/services')[1].decode())")
        left = _until(lambda: set(json.loads(lab.run("consul-1", listed))) == {"consul"} and "consul", "it is empty")
        yield f"the catalogue holds {left} alone"
    finally:
        everywhere(lambda node: lab.run(node, "systemctl start --no-block registrator"))


HOSTILE = 1000
_EVIL = [
    ";", "}", "{{", "}}", "\n}\nserver {\n    listen 81;\n}\n", '"', "'", "\\", "#", "$host", "{{ key `secret` }}", "; } server { listen 82; return 200; } #",
    "unix:/run/docker.sock", "..", "/", "</script>", "\u202e", "\x1b[31m", " backup", "|any", "@dc2", "x" * 300,
]  # fmt: skip


def hostile(number: int) -> dict[str, t.Any]:
    """One registration as somebody might try it. No address in it leads anywhere but to the node itself."""
    evil = _EVIL[number % len(_EVIL)]
    body: dict[str, t.Any] = {"ID": f"fault-evil-{number}", "Name": f"fault-evil-{number}", "Address": lab.NODES["consul-3"], "Port": 9, "Tags": ["http"]}
    ways: list[dict[str, t.Any]] = [
        {"Name": f"evil{number}{evil}"},
        {"Address": f"{lab.NODES['consul-3']}{evil}"},
        {"Tags": ["http", evil, f"tcp{evil}"]},
        {"Tags": ["tcp"], "Meta": {"edge_port": str((80, 443, 22, 53, 8500, 8098, ECHO_PORT, 0, 70000)[number % 9])}},
        {"Tags": ["tcp"], "Meta": {"edge_port": str(20000 + number)}},
        {"Meta": {"edge_weight": evil, "edge_canary": evil, "version": evil, "edge_https": evil}},
        {"Name": (WEB.upper(), WEB.capitalize(), f"{WEB}.", f" {WEB}")[number % 4]},
        {"Port": (0, 22, 2375, 8500)[number % 4]},
        {"Address": ("127.0.0.1", "::1", "169.254.1.1", "224.0.0.1", "::ffff:127.0.0.1", "localhost", "0.0.0.0")[number % 7]},
        {"Tags": ["tls"]},
        {},
    ]
    return {**body, **ways[number % len(ways)]}


_REGISTER = """
statuses = [ask("PUT", "/v1/agent/service/register", line.encode())[0] for line in sys.stdin]
print(statuses.count(200), len(statuses) - statuses.count(200))
"""


@contextlib.contextmanager
def hostile_registrations(node: str = "consul-3") -> Proof:
    """A thousand registrations of all kinds of malice and mistake."""
    lines = "".join(json.dumps(hostile(number)) + "\n" for number in range(HOSTILE))
    try:
        words = ["docker", "exec", "-i", lab.container(node), "sh", "-c", _at_agent(_REGISTER)]
        done = subprocess.run(words, input=lines, capture_output=True, text=True, check=False)
        taken, refused = (int(word) for word in done.stdout.split() or ("0", "0"))
        if taken < HOSTILE / 2:
            raise NotInjected(f"Consul took {taken} of {HOSTILE} registrations: {done.stderr[-500:]}")
        yield f"Consul took {taken} registrations and refused {refused}"
    finally:
        lab.run(node, _at_agent("forget('fault-evil-')"))
