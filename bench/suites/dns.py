# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names: questions per second and latencies through the host's resolver and from containers.

As the platform installs it, with the caches that its roles can be told to use, and while another node is away.
"""

from __future__ import annotations

import json

from bench import images, lost_node
from bench.consul import Consul, External
from bench.figures import Figure, Figures
from bench.lab import LABEL, PROGRAMS, Lab, LabError, remove_instances, undo, wait_for
from bench.names import CLIENTS, OUTSTANDING, PROCESSES, Asked, Place, ask_libc, ask_server, parse_hits
from bench.options import Options
from bench.play import play
from bench.report import Outcome
from bench.sides import DIRECTORY
from bench.stats import percentile
from bench.svg import Panel, Row

ROUNDS, SECONDS, RATE = 3, 5, 200
CACHE_SECONDS = 10
SERVICE = "bench-dns"
NAME = f"{SERVICE}.service.consul"
NETWORK = "bench-dns"
DOCKER_RESOLVER = "127.0.0.11"
PROGRAM = f"{DIRECTORY}/resolve.py"
QUESTIONS = f"{DIRECTORY}/questions"
RESOLV_CONF = "/etc/resolv.conf"
# systemd-resolved keeps no answer that comes from loopback, where the nearest agent is, unless it is told to; the role has no word for that.
RESOLVED_FILE = "/etc/systemd/resolved.conf.d/90-bench.conf"
RESOLVED_CACHE = "[Resolve]\nCacheFromLocalhost=yes\n"
# What `consul_server_extra_config` would write. The agent reads no other file; the role's own one is kept meanwhile.
AGENT_FILE = "/etc/consul.d/consul.json"
AGENT_COPY = f"{AGENT_FILE}.bench"
AGENT_CACHE = {"dns_config": {"service_ttl": {"*": f"{CACHE_SECONDS}s"}, "use_cache": True, "cache_max_age": f"{CACHE_SECONDS}s"}}

PARTS = ("plain", "lost", "cached")

# Path -> what it is.
PATHS = {
    "agent": f"dnsperf on the host to the agent on loopback, {CLIENTS} sockets and {OUTSTANDING} outstanding queries",
    "host": f"`getaddrinfo` on the host, through its resolver, from {PROCESSES} processes (two queries per lookup: IPv4 and IPv6)",
    "bridge": "dnsperf from a container of Docker's default network to the agent of its node",
    "network": "dnsperf from a container of a network of its own to Docker's resolver there, which asks the agent",
    "container": "`getaddrinfo` in a container of the default network, with its resolver file",
}
MODES = {
    "plain": "as installed: no answer is cached anywhere",
    "cached": f"agents with `use_cache` and a `service_ttl` of {CACHE_SECONDS} s, and the host under systemd-resolved, which also caches answers of loopback",
}


def _declared() -> tuple[Figure, ...]:
    rows = []
    for mode, how in MODES.items():
        for path, what in PATHS.items():
            ours = f"{what}; {how}" if mode == "plain" else f"the same path; {how}"
            rows += [
                Figure(f"{mode}_{path}_qps", "lookups/s", f"{ours}; median of {ROUNDS} runs of {SECONDS} s"),
                Figure(f"{mode}_{path}_p50_ms", "ms", f"median latency there at {RATE} lookups/s, median of the runs"),
                Figure(f"{mode}_{path}_p99_ms", "ms", "the same, 99th percentile"),
            ]
    rows += [
        Figure("resolved_hits_percent", "%", f"of {SECONDS} s of lookups on the host, how many systemd-resolved answers from its cache as the role sets it up"),
        Figure("cached_hits_percent", "%", "the same with `CacheFromLocalhost=yes`, as all of `cached` is measured"),
    ]
    return (*rows, *lost_node.declared())


FIGURES = _declared()


class DnsBench:
    """The run of the suite. Everybody who asks is on the node that is no edge."""

    def __init__(self, lab: Lab, options: Options) -> None:
        self.lab = lab
        self.options = options
        self.node = lab.nodes[2]
        self.consul = Consul(lab, self.node)
        self.outcome = Outcome("dns", "Names, from hosts and containers", Figures(FIGURES))
        self.places: dict[str, Place] = {}
        self.rates: dict[str, list[float]] = {}
        self.latencies: dict[str, list[float]] = {}
        self._brought = False
        self._resolver_before = ""
        self._resolver_changed = False

    # -- before and after -------------------------------------------------------------------------------------------------

    def set_up(self) -> None:
        """The service, the containers, and who asks."""
        self.options.say("a service, two containers and dnsperf")
        self._resolver_before = self.resolver()
        self._brought = images.install(self.node, "dnsperf")
        self.node.put(PROGRAM, (PROGRAMS / "resolve.py").read_text(encoding="utf-8"))
        self.node.put(QUESTIONS, f"{NAME} A\n")
        # Where nothing listens: names are all that is asked for.
        self.consul.create_external_node(self.node.address)
        self.consul.put([External(f"{SERVICE}-{number}", SERVICE, node.address, 9, ()) for number, node in enumerate(self.lab.nodes)])
        images.make_small(self.node)
        self.node.run(f"docker network inspect {NETWORK} >/dev/null 2>&1 || docker network create {NETWORK} >/dev/null")
        self.places["host"] = Place(self.node)
        for name, network in (("bridge", "bridge"), ("network", NETWORK)):
            container = f"bench-dns-{name}"
            self.node.run(f"docker run -d --name {container} --label {LABEL}=1 --network {network} {images.SMALL} >/dev/null", timeout=120)
            words = self.node.run(f"docker inspect --format '{{{{.State.Pid}}}} {{{{.ResolvConfPath}}}}' {container}").split()
            self.places[name] = Place(self.node, int(words[0]), words[1])
        for name, place in self.places.items():
            look = place.command(f"getent ahostsv4 {NAME}", libc=True)
            wait_for(lambda words=look: self.node.run(words, check=False), 30, f"{NAME} has an address on {self.node.name} ({name})")  # type: ignore[misc]
        versions = self.node.run("dnsperf -h 2>&1 | sed -n 's/^Version/dnsperf/p'; consul version | head -1; docker --version")
        self.outcome.settings["versions"] = versions.splitlines()
        self.outcome.settings["resolver"] = self._resolver_before.splitlines()

    def tear_down(self) -> None:
        """Leave the nodes as they were found."""
        self.options.say("removing what the benchmark made")
        undo(
            lambda: remove_instances([self.node]),
            lambda: self.node.run(f"docker network rm {NETWORK} >/dev/null 2>&1; true"),
            self.consul.remove_external_node,
            self.forget_agent_caches,
            self.restore_resolver,
            lambda: images.purge(self.node, "dnsperf") if self._brought else None,
            lambda: self.node.run(f"rm -rf {DIRECTORY}"),
            lambda: images.remove_images(self.lab),
        )

    def resolver(self) -> str:
        """How the node resolves names."""
        return self.node.run(f"readlink {RESOLV_CONF}; grep -v '^#' {RESOLV_CONF}; true")

    # -- caches -----------------------------------------------------------------------------------------------------------

    def agents_keep_answers(self) -> None:
        """Tell every agent to answer from its cache, and to allow others to keep its answers."""
        for node in self.lab.nodes:
            node.run(f"[ -e {AGENT_COPY} ] || cp -p {AGENT_FILE} {AGENT_COPY}")
            settings = json.loads(node.run(f"cat {AGENT_COPY}"))
            settings["dns_config"].update(AGENT_CACHE["dns_config"])
            node.put(AGENT_FILE, json.dumps(settings))
            node.run(f"chown root:consul {AGENT_FILE} && chmod 640 {AGENT_FILE} && systemctl reload consul")
        self.wait_for_ttl(True)

    def forget_agent_caches(self) -> None:
        """Take that back."""
        for node in self.lab.nodes:
            node.run(f"if [ -e {AGENT_COPY} ]; then mv {AGENT_COPY} {AGENT_FILE} && systemctl reload consul; fi")
        self.wait_for_ttl(False)

    def wait_for_ttl(self, wanted: bool) -> None:
        """Wait until every agent has read its settings."""
        for node in self.lab.nodes:
            agent = Consul(self.lab, node)
            wait_for(
                lambda at=agent: bool((at.call("GET", "/v1/agent/self")[0]["DebugConfig"] or {}).get("DNSServiceTTL")) is wanted,  # type: ignore[misc]
                30,
                f"the agent on {node.name} {'has' if wanted else 'has no'} service_ttl",
            )

    def host_keeps_answers(self) -> None:
        """Put the host under systemd-resolved, by the platform's own role."""
        self._resolver_changed = True
        variables = {"resolvconf_dns_backend": "resolved"}
        play("site.yml", self.lab.name, self.network, "--tags", "resolvconf_dns", "--limit", self.node.name, variables=variables)
        self.outcome.settings["resolver_cached"] = self.resolver().splitlines()
        if "127.0.0.53" not in self.resolver():
            raise LabError(f"{RESOLV_CONF} of {self.node.name} does not name systemd-resolved after its role was played: {self.resolver()}")
        self.hits("resolved_hits_percent")
        self.node.put(RESOLVED_FILE, RESOLVED_CACHE)
        self.node.run("systemctl restart systemd-resolved")
        self.hits("cached_hits_percent")

    def hits(self, figure: str) -> None:
        """What the cache of systemd-resolved is good for."""
        self.node.run("resolvectl reset-statistics")
        self.ask("host", self.options.few(SECONDS, 2), RATE)
        try:
            share = parse_hits(self.node.run("resolvectl statistics"))
        except ValueError as error:
            raise LabError(f"{self.node.name}: {error}") from error
        if share is None:
            raise LabError(f"systemd-resolved on {self.node.name} was asked nothing by {NAME} lookups: see {RESOLV_CONF} and /etc/nsswitch.conf")
        self.outcome.figures.set(figure, share * 100)

    def restore_resolver(self) -> None:
        """Take systemd-resolved out again, when it was brought, and play the role as it was."""
        if not self._resolver_changed:
            return
        self.node.run(f"rm -f {RESOLVED_FILE}")
        limit = ("--tags", "resolvconf_dns", "--limit", self.node.name)
        play("playbooks/uninstall.yml", self.lab.name, self.network, *limit, variables={"uninstall_packages": True, "confirm_datacenter": "dc1"})
        play("site.yml", self.lab.name, self.network, *limit)
        if self.resolver() != self._resolver_before:
            self.outcome.note(f"{RESOLV_CONF} of {self.node.name} is not what it was before: it was {self._resolver_before!r}, and is {self.resolver()!r}.")

    @property
    def network(self) -> str:
        """The first three numbers of the nodes' network."""
        return self.node.address.rpartition(".")[0]

    # -- measuring --------------------------------------------------------------------------------------------------------

    def ask(self, path: str, seconds: int, rate: int) -> Asked:
        """One run on a path."""
        if path == "agent":
            return ask_server(self.lab, self.places["host"], "127.0.0.1", QUESTIONS, seconds, rate)
        if path == "bridge":
            return ask_server(self.lab, self.places["bridge"], self.node.address, QUESTIONS, seconds, rate)
        if path == "network":
            return ask_server(self.lab, self.places["network"], DOCKER_RESOLVER, QUESTIONS, seconds, rate)
        return ask_libc(self.lab, self.places["host" if path == "host" else "bridge"], PROGRAM, NAME, seconds, rate)

    def measure(self, mode: str) -> None:
        """All paths in turn, in several rounds."""
        seconds = self.options.few(SECONDS, 2)
        rates: dict[str, list[float]] = {path: [] for path in PATHS}
        p50: dict[str, list[float]] = {path: [] for path in PATHS}
        p99: dict[str, list[float]] = {path: [] for path in PATHS}
        for path in PATHS:
            # A warm-up.
            self.ask(path, 1, 0)
        for number in range(self.options.few(ROUNDS, 2)):
            for path in PATHS if number % 2 == 0 else reversed(PATHS):
                rates[path].append(self.ask(path, seconds, 0).rate)
                steady = self.ask(path, seconds, RATE)
                p50[path].append(steady.p50)
                p99[path].append(steady.p99)
                if steady.lost:
                    self.outcome.note(f"{steady.lost} questions on the path {path} ({mode}) got no answer at {RATE} lookups/s.")
        for path in PATHS:
            series = self.outcome.add_series(f"{mode}_{path}", "lookups/s", rates[path])
            self.outcome.figures.set(f"{mode}_{path}_qps", series.summary().median)
            self.outcome.add_series(f"{mode}_{path}_p50", "ms", p50[path])
            self.outcome.figures.set(f"{mode}_{path}_p50_ms", percentile(p50[path], 0.5))
            self.outcome.add_series(f"{mode}_{path}_p99", "ms", p99[path])
            self.outcome.figures.set(f"{mode}_{path}_p99_ms", percentile(p99[path], 0.5))
            self.rates[f"{path}, {mode}"], self.latencies[f"{path}, {mode}"] = rates[path], p99[path]

    def part_plain(self) -> None:
        """As installed."""
        self.measure("plain")

    def part_lost(self) -> None:
        """While another node is away, next to the same with every node up."""
        away = self.lab.nodes[0]
        lookups = lost_node.Lookups(self.lab, self.node, away, NETWORK, NAME)
        few = self.options.few
        tails = lost_node.measure(lookups, self.outcome, few(lost_node.ROUNDS, 1), few(lost_node.COUNT, 100))
        rows = [Row(f"{kind}, {state}", tails[state][kind], "platform" if state == "up" else "other") for kind in lost_node.KINDS for state in ("up", "away")]
        self.outcome.panels.append(Panel("99th percentile with every node up, and with another one away", "ms", rows))

    def part_cached(self) -> None:
        """With every cache that the roles can be told to use."""
        self.options.say("the host under systemd-resolved, and agents that keep answers")
        self.agents_keep_answers()
        self.host_keeps_answers()
        self.measure("cached")

    def report(self) -> None:
        """Pictures."""
        for title, unit, found in (
            ("Lookups, as fast as they get answers", "lookups/s", self.rates),
            (f"99th percentile of the latency at {RATE} lookups/s", "ms", self.latencies),
        ):
            if not found:
                continue
            rows = [
                Row(f"{path}, {mode}", found[f"{path}, {mode}"], "other" if mode == "cached" else "platform")
                for path in PATHS
                for mode in MODES
                if f"{path}, {mode}" in found
            ]
            self.outcome.panels.append(Panel(title, unit, rows))


def run(lab: Lab, options: Options) -> Outcome:
    """Run the suite, or some parts of it."""
    bench = DnsBench(lab, options)
    bench.outcome.settings.update(rounds=ROUNDS, seconds=SECONDS, rate=RATE, name=NAME, cached={"consul": AGENT_CACHE, "resolved": RESOLVED_CACHE})
    parts = {"plain": bench.part_plain, "lost": bench.part_lost, "cached": bench.part_cached}
    options.run(bench.set_up, parts, bench.tear_down)
    bench.report()
    return bench.outcome
