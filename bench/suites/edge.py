# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edges: how soon a change is seen, how fast they are, what they lose at a reload, and how they grow. Side by side with the seed's way and
with HAProxy as the distribution has it."""

from __future__ import annotations

import contextlib
import typing as t

from bench import images, sides
from bench.changes import CHANGE, PAGE, SLOWEST_SECONDS, Change, EdgeWork, host, is_for, is_from, is_gone
from bench.consul import External
from bench.figures import Figure, Figures, Target
from bench.lab import Endpoint, Lab, LabError, look_at_instance, remove_instance, start_instance, undo
from bench.load import SteadyLoad, Watch, WrkResult, wait_for_answer, wrk
from bench.options import Options
from bench.report import Outcome
from bench.sides import HAProxy, Seed, Side
from bench.stats import paired_ratio, percentile
from bench.svg import Panel, Row

# Short blocks: a change and its removal are two of the ten reloads that the apply program grants at once before it spaces them out.
CHANGE_BLOCKS, CHANGES_PER_BLOCK = 6, 4
COLD_CHANGES = 10
LIFECYCLE_BLOCKS, LIFECYCLES_PER_BLOCK = 2, 5
ROUNDS, WRK_SECONDS, WRK_WARM_UP_SECONDS, CONNECTIONS = 5, 5, 2, 32
RELOADS, LOAD_RATE, LOAD_LONGEST_SECONDS = 100, 50.0, 300.0
COMINGS = 20
SIZES = (10, 100, 1000)
CHANGES_PER_SIZE = 5

# Further services: `solo` comes and goes; `flip` moves between instances by the API.
SOLO, FLIP = "bench-solo", "bench-flip"
# What the figures of a side begin with.
PREFIXES = {"platform": "", "seed": "seed_", "haproxy": "haproxy_"}

PARTS = ("change", "lifecycle", "throughput", "reloads", "churn", "growth")


def _declared() -> tuple[Figure, ...]:
    change = "from the start of an added instance's container (`StartedAt`) to the first answer of that instance through both edges, each asked every 4 ms"
    rows = [
        Figure("change_visible_median_ms", "ms", f"the platform: {change}; median of {CHANGE_BLOCKS * CHANGES_PER_BLOCK} changes"),
        Figure("change_visible_p95_ms", "ms", "the same, 95th percentile"),
        Figure("seed_change_visible_median_ms", "ms", "the seed's template and command: the same"),
        Figure("seed_change_visible_p95_ms", "ms", "the same, 95th percentile"),
        Figure("change_visible_ratio_seed", "ratio", "median of platform / seed over the pairs of changes", Target("<=", 1.5)),
        Figure("haproxy_change_visible_median_ms", "ms", "HAProxy with DNS SRV discovery every second: the same"),
        Figure("haproxy_change_visible_p95_ms", "ms", "the same, 95th percentile"),
        Figure("change_visible_ratio_haproxy", "ratio", "median of platform / HAProxy over the pairs of changes"),
        Figure("change_visible_from_command_median_ms", "ms", "the platform: the same changes, counted from the call of `docker run`"),
        Figure("seed_change_visible_from_command_median_ms", "ms", "the seed: the same"),
        Figure("change_visible_cold_median_ms", "ms", "the platform: the same, when the apply program does not run yet, as after a boot"),
        Figure("phase_registered_median_ms", "ms", "of these changes on the platform: from `StartedAt` until the catalogue has the instance"),
        Figure("phase_rendered_median_ms", "ms", "from there until consul-template has written the staged file, on the later edge"),
        Figure("phase_built_median_ms", "ms", "from there until the apply program has written the candidate"),
        Figure("phase_tested_median_ms", "ms", "from there until `nginx -t` is through and the candidate is linked"),
        Figure("phase_reloaded_median_ms", "ms", "from there until the edge answers from the instance"),
        Figure("seed_phase_rendered_median_ms", "ms", "the seed: from the catalogue to the written nginx.conf"),
        Figure("seed_phase_reloaded_median_ms", "ms", "the seed: from there until the edge answers from the instance"),
        Figure("appear_visible_median_ms", "ms", "the platform: as change_visible, for the first instance of a service that was not there"),
        Figure("seed_appear_visible_median_ms", "ms", "the seed: the same"),
        Figure(
            "gone_visible_median_ms", "ms", "the platform: from `docker rm -f` of the last instance until neither edge answers with it or with a bad gateway"
        ),
        Figure("seed_gone_visible_median_ms", "ms", "the seed: the same"),
        Figure("seed_template_exits", "exits", "how often the seed's consul-template ended during these and was started again"),
        Figure(
            "throughput_platform_rps",
            "requests/s",
            f"`wrk -t1 -c{CONNECTIONS}` on the third node through the first edge to one page on three instances; median",
        ),
        Figure("throughput_seed_rps", "requests/s", "the same through the seed's nginx on the same edge"),
        Figure("throughput_handwritten_rps", "requests/s", "the same through a static nginx.conf written by hand, with upstream keepalive"),
        Figure("throughput_haproxy_rps", "requests/s", "the same through HAProxy on the same edge"),
        Figure("throughput_direct_rps", "requests/s", "the same to one instance without an edge"),
        Figure("throughput_ratio_handwritten", "ratio", "median of platform / hand-written over the rounds", Target(">=", 0.95)),
        Figure("throughput_ratio_seed", "ratio", "median of platform / seed over the rounds", Target(">=", 2)),
        Figure("throughput_ratio_haproxy", "ratio", "median of platform / HAProxy over the rounds"),
    ]
    for name in ("platform", "seed", "handwritten", "haproxy", "direct"):
        rows += [
            Figure(f"latency_{name}_p50_ms", "ms", f"median latency of the {name} run above, median of the rounds"),
            Figure(f"latency_{name}_p99_ms", "ms", "the same, 99th percentile"),
        ]
    rows += [
        Figure("reloads", "reloads", "the platform: reloads on each edge under load, each by a change that both edges were seen to serve"),
        Figure("reload_requests", "requests", f"requests meanwhile: {LOAD_RATE:g}/s to each edge on new connections and as many on kept ones"),
        Figure("reload_failed_requests", "requests", "of these, answered incorrectly or not at all", Target("<=", 0)),
        Figure("reload_resent_requests", "requests", "of these, sent again because a kept-alive connection had been closed"),
        Figure("seed_reload_requests", "requests", "the seed: the same with as many reloads"),
        Figure("seed_reload_failed_requests", "requests", "the seed: the same"),
        Figure("seed_reload_resent_requests", "requests", "the seed: the same"),
        Figure("churn", "instances", "each side: instances that started, answered through both edges, and were killed by `docker rm -f`, under the same load"),
    ]
    for name, title in (("", "the platform"), ("seed_", "the seed"), ("haproxy_", "HAProxy")):
        rows += [
            Figure(f"{name}churn_requests", "requests", f"{title}: requests meanwhile to their service, which keeps one other instance"),
            Figure(f"{name}churn_failed_requests", "requests", "of these, answered incorrectly or not at all"),
            Figure(f"{name}churn_resent_requests", "requests", "of these, sent again because a kept-alive connection had been closed"),
        ]
    for size in SIZES:
        slow = Target("<", 1000) if size == max(SIZES) else None
        first = Target("<", 10_000) if size == max(SIZES) else None
        rows += [
            Figure(
                f"render_{size}_ms",
                "ms",
                f"the platform with {size} services of three instances: from the start of consul-template to the staged file, later edge",
            ),
            Figure(f"first_visible_{size}_ms", "ms", "the same until both edges answer for the last of them: first render, test and swap", first),
            Figure(f"apply_{size}_ms", "ms", "the run of the checked apply in that, as the apply program reports it, slower edge"),
            Figure(f"seed_render_{size}_ms", "ms", "the seed: from the start of consul-template to its nginx.conf"),
            Figure(f"seed_first_visible_{size}_ms", "ms", "the seed: until both edges answer for the last of them"),
            Figure(f"change_visible_{size}_median_ms", "ms", f"change_visible with {size} services; median of {CHANGES_PER_SIZE}", slow),
            Figure(f"seed_change_visible_{size}_median_ms", "ms", "the seed: the same"),
            Figure(f"nginx_{size}_mb", "MB", "proportional memory (PSS) of nginx with all its workers afterwards, larger edge"),
            Figure(f"template_{size}_mb", "MB", "the same of consul-template"),
            Figure(f"apply_{size}_mb", "MB", "the same of the apply program, which stays after its first change"),
            Figure(f"seed_nginx_{size}_mb", "MB", "the seed: nginx"),
            Figure(f"seed_template_{size}_mb", "MB", "the seed: consul-template"),
        ]
    return tuple(rows)


FIGURES = _declared()


class EdgeBench(EdgeWork):
    """The run of the suite."""

    def __init__(self, lab: Lab, options: Options) -> None:
        super().__init__(lab, options)
        self.seed, self.haproxy = Seed(lab), HAProxy(lab)
        # Those that are fed by consul-template.
        self.both: tuple[Side, Side] = (self.platform, self.seed)
        self.three: tuple[Side, ...] = (*self.both, self.haproxy)
        self.outcome = Outcome("edge", "The edges, side by side with the seed's way and HAProxy", Figures(FIGURES))

    # -- before and after -------------------------------------------------------------------------------------------------

    def set_up(self) -> None:
        """Bring instances and the other sides to the nodes."""
        self.start_pages()
        self.options.say("the seed and HAProxy beside the platform")
        self.seed.set_up()
        self.haproxy.set_up({host(service): service for service in (PAGE, CHANGE)})
        for side in self.three:
            self.wait_for_pages(side)
        self.outcome.settings["versions"] = [*self.versions(), self.lab.edges[0].run("haproxy -v | head -1")]

    def tear_down(self) -> None:
        """Leave the nodes as they were found."""
        self.options.say("removing what the benchmark made")
        for side in self.both:
            with contextlib.suppress(LabError):
                side.resume()
        undo(self.remove_pages, self.haproxy.remove, lambda: sides.remove_all(self.lab), self.leave_edges)

    @contextlib.contextmanager
    def only(self, side: Side) -> t.Iterator[None]:
        """Halt the others meanwhile."""
        others = [other for other in self.both if other is not side]
        for other in others:
            other.pause()
        try:
            yield
        finally:
            for other in others:
                other.resume()

    def blocks(self, count: int, among: t.Sequence[Side]) -> t.Iterator[tuple[int, Side]]:
        """Blocks of the sides in the order ABBA, so that none is always the first."""
        for number in range(count):
            for side in among if number % 2 == 0 else among[::-1]:
                yield number, side

    # -- changes ----------------------------------------------------------------------------------------------------------

    def changes(self, blocks: int, per_block: int) -> dict[str, list[Change]]:
        """Changes on every side in turn; the first of each side is a warm-up and not counted."""
        found: dict[str, list[Change]] = {side.name: [] for side in self.three}
        for number, side in self.blocks(blocks, self.three):
            with self.only(side):
                for _ in range(per_block + (number == 0)):
                    found[side.name].append(self.change(side))
        return {name: changes[1:] for name, changes in found.items()}

    def part_change(self) -> None:
        """How soon one more instance is seen, and where the time goes."""
        outcome, figures = self.outcome, self.outcome.figures
        found = self.changes(self.options.few(CHANGE_BLOCKS, 2), self.options.few(CHANGES_PER_BLOCK, 2))
        visible = {name: [change.visible for change in changes] for name, changes in found.items()}
        for name, changes in found.items():
            prefix = PREFIXES[name]
            series = outcome.add_series(f"{prefix}change_visible", "ms", visible[name])
            figures.set(f"{prefix}change_visible_median_ms", series.summary().median)
            figures.set(f"{prefix}change_visible_p95_ms", series.summary().p95)
            command = outcome.add_series(f"{prefix}change_visible_from_command", "ms", [change.from_command for change in changes])
            if f"{prefix}change_visible_from_command_median_ms" in figures.declared:
                figures.set(f"{prefix}change_visible_from_command_median_ms", command.summary().median)
            for phase in changes[0].phases:
                series = outcome.add_series(f"{prefix}phase_{phase}", "ms", [change.phases[phase] for change in changes])
                if f"{prefix}phase_{phase}_median_ms" in figures.declared:
                    figures.set(f"{prefix}phase_{phase}_median_ms", series.summary().median)
        figures.set("change_visible_ratio_seed", paired_ratio(visible["platform"], visible["seed"]))
        figures.set("change_visible_ratio_haproxy", paired_ratio(visible["platform"], visible["haproxy"]))
        with self.only(self.platform):
            cold = outcome.add_series(
                "change_visible_cold", "ms", [self.change(self.platform, cold=True).visible for _ in range(self.options.few(COLD_CHANGES))]
            )
        figures.set("change_visible_cold_median_ms", cold.summary().median)
        rows = [
            Row("platform", visible["platform"], "platform"),
            Row("platform, apply program not started", cold.samples, "platform"),
            Row("seed", visible["seed"]),
            Row("HAProxy, DNS SRV every second", visible["haproxy"]),
        ]
        outcome.panels.append(Panel("Container started → both edges answer from it", "ms", rows))
        rows = [
            Row(f"{side.name}: {phase}", outcome.series[f"{PREFIXES[side.name]}phase_{phase}"].samples, side.kind)
            for side in self.both
            for phase in found[side.name][0].phases
        ]
        outcome.panels.append(Panel("Where that time goes, step by step", "ms", rows))

    def part_lifecycle(self) -> None:
        """The first instance of a service comes, the last one goes."""
        appear: dict[str, list[float]] = {side.name: [] for side in self.both}
        gone: dict[str, list[float]] = {side.name: [] for side in self.both}
        node = self.lab.nodes[2]
        before = self.seed.restarts()
        for number, side in self.blocks(LIFECYCLE_BLOCKS, self.both):
            with self.only(side):
                for repetition in range(self.options.few(LIFECYCLES_PER_BLOCK) + (number == 0)):
                    ident = f"solo-{next(self.numbers)}"
                    watch = Watch(self.lab, side.endpoints(), host(SOLO), is_from(ident), SLOWEST_SECONDS).start()
                    start_instance(node, ident, images.PAGE, {"SERVICE_NAME": SOLO, "SERVICE_TAGS": "http"})
                    seen = max(watch.result().values())
                    instance = look_at_instance(node, ident)
                    watch = Watch(self.lab, side.endpoints(), host(SOLO), is_gone(ident, SOLO), SLOWEST_SECONDS).start()
                    began, _ = remove_instance(node, ident)
                    left = max(watch.result().values())
                    side.settled(absent=[f"{node.address}:{instance.port}"])
                    if number or repetition:
                        appear[side.name].append((seen - instance.started_at) * 1000)
                        gone[side.name].append((left - began) * 1000)
        outcome = self.outcome
        for name, prefix in (("platform", ""), ("seed", "seed_")):
            outcome.figures.set(f"{prefix}appear_visible_median_ms", outcome.add_series(f"{prefix}appear_visible", "ms", appear[name]).summary().median)
            outcome.figures.set(f"{prefix}gone_visible_median_ms", outcome.add_series(f"{prefix}gone_visible", "ms", gone[name]).summary().median)
        outcome.figures.set("seed_template_exits", self.seed.restarts() - before)
        for title, found in (("First instance started → both edges answer from it", appear), ("Last instance removed → both edges know", gone)):
            outcome.panels.append(Panel(title, "ms", [Row("platform", found["platform"], "platform"), Row("seed", found["seed"])]))

    # -- throughput -------------------------------------------------------------------------------------------------------

    def part_throughput(self) -> None:
        """Requests per second through an edge."""
        edge, caller = self.lab.edges[0], self.lab.nodes[2]
        missing = images.install(caller, "wrk")
        hand = sides.start_hand_written(self.lab, edge, host(PAGE), self.pages.items())
        wait_for_answer(self.lab, [hand], host(PAGE), is_for(PAGE))
        direct = Endpoint(self.lab.nodes[1], self.pages[self.lab.nodes[1].address])
        candidates = {
            "platform": Endpoint(edge, self.platform.port),
            "handwritten": hand,
            "haproxy": Endpoint(edge, self.haproxy.port),
            "seed": Endpoint(edge, self.seed.port),
            "direct": direct,
        }
        found: dict[str, list[WrkResult]] = {name: [] for name in candidates}
        for endpoint in candidates.values():
            wrk(self.lab, caller, endpoint, host(PAGE), WRK_WARM_UP_SECONDS, CONNECTIONS)
        for number in range(self.options.few(ROUNDS, 2)):
            for name in candidates if number % 2 == 0 else reversed(candidates):
                result = wrk(self.lab, caller, candidates[name], host(PAGE), WRK_SECONDS, CONNECTIONS)
                found[name].append(result)
                if result.socket_errors:
                    self.outcome.note(f"wrk against {name} reported {result.socket_errors} socket errors in a round.")
        edge.run(f"systemctl stop {sides.HAND_UNIT}")
        if missing:
            images.purge(caller, "wrk")
        outcome, figures = self.outcome, self.outcome.figures
        rates = {name: [result.rate for result in results] for name, results in found.items()}
        for name, results in found.items():
            figures.set(f"throughput_{name}_rps", outcome.add_series(f"throughput_{name}", "requests/s", rates[name]).summary().median)
            figures.set(f"latency_{name}_p50_ms", percentile([result.p50 for result in results], 0.5))
            figures.set(f"latency_{name}_p99_ms", percentile([result.p99 for result in results], 0.5))
        figures.set("throughput_ratio_handwritten", paired_ratio(rates["platform"], rates["handwritten"]))
        figures.set("throughput_ratio_seed", paired_ratio(rates["platform"], rates["seed"]))
        figures.set("throughput_ratio_haproxy", paired_ratio(rates["platform"], rates["haproxy"]))
        rows = [
            Row("direct, no edge", rates["direct"], "bound"),
            Row("hand-written nginx", rates["handwritten"]),
            Row("platform", rates["platform"], "platform"),
            Row("HAProxy", rates["haproxy"]),
            Row("seed", rates["seed"]),
        ]
        outcome.panels.append(Panel(f"Requests through one edge, wrk with {CONNECTIONS} connections", "requests/s", rows))

    # -- reloads ----------------------------------------------------------------------------------------------------------

    def part_reloads(self) -> None:
        """Reload a hundred times under load: every change of the catalogue that an edge shows is one."""
        outcome, figures = self.outcome, self.outcome.figures
        # Three places in turn: a worker that has not heard of its end yet still gives the answer before, which must not pass for the next one.
        places = [External("bench-flip-1", FLIP, node.address, self.pages[node.address]) for node in self.lab.nodes]
        names = [f"page-{number}" for number in range(1, len(places) + 1)]
        for side in self.both:
            prefix = PREFIXES[side.name]
            self.consul.put([places[0]])
            wait_for_answer(self.lab, side.endpoints(), host(FLIP), is_from(names[0]))
            generations = self.platform.generations()
            with self.only(side):
                load = SteadyLoad(self.lab, side.endpoints(), host(PAGE), LOAD_RATE, LOAD_LONGEST_SECONDS, is_for(PAGE)).start()
                try:
                    for number in range(1, self.options.few(RELOADS) + 1):
                        watch = Watch(self.lab, side.endpoints(), host(FLIP), is_from(names[number % 3]), SLOWEST_SECONDS).start()
                        self.consul.put([places[number % 3]])
                        watch.result()
                finally:
                    count = load.stop()
            if side is self.platform:
                figures.set("reloads", min(after - before for before, after in zip(generations, self.platform.generations())))
            figures.set(f"{prefix}reload_requests", count.requests)
            figures.set(f"{prefix}reload_failed_requests", count.failed)
            figures.set(f"{prefix}reload_resent_requests", count.resent)
            for error in count.errors:
                outcome.note(f"A request that failed during the reloads of {side.title}: {error}.")
        self.consul.put([places[0]], verb="delete")
        for side in self.both:
            side.settled(absent=[host(FLIP)])

    # -- churn ------------------------------------------------------------------------------------------------------------

    def part_churn(self) -> None:
        """Instances come, and end without a word, under load."""
        figures = self.outcome.figures
        comings = self.options.few(COMINGS)
        for side in self.three:
            prefix = PREFIXES[side.name]
            with self.only(side):
                # A warm-up: what the side did before is over.
                self.change(side)
                load = SteadyLoad(self.lab, side.endpoints(), host(CHANGE), LOAD_RATE, LOAD_LONGEST_SECONDS, is_for(CHANGE)).start()
                try:
                    for _ in range(comings):
                        self.change(side)
                finally:
                    count = load.stop()
            figures.set(f"{prefix}churn_requests", count.requests)
            figures.set(f"{prefix}churn_failed_requests", count.failed)
            figures.set(f"{prefix}churn_resent_requests", count.resent)
            for error in count.errors:
                self.outcome.note(f"A request that failed while instances of {side.title} came and went: {error}.")
        figures.set("churn", comings)

    # -- growth -----------------------------------------------------------------------------------------------------------

    def first_render_figures(self, side: Side, size: int) -> None:
        """The first render of a side, as figures."""
        prefix = PREFIXES[side.name]
        first = self.first_render(side, size)
        self.outcome.figures.set(f"{prefix}render_{size}_ms", first.rendered)
        self.outcome.figures.set(f"{prefix}first_visible_{size}_ms", first.visible)
        if side is self.platform:
            self.outcome.figures.set(f"apply_{size}_ms", self.platform.apply_milliseconds())

    def part_growth(self) -> None:
        """The same with more and more services."""
        outcome, figures = self.outcome, self.outcome.figures
        sizes: dict[str, dict[int, list[Change]]] = {side.name: {} for side in self.both}
        had = 0
        for size in SIZES:
            self.options.say(f"{size} services")
            for side in self.both:
                side.stop()
            self.consul.put(self.many(had + 1, size))
            had = size
            for side in self.both:
                self.first_render_figures(side, size)
            for side in self.both:
                sizes[side.name][size] = []
                with self.only(side):
                    for repetition in range(self.options.few(CHANGES_PER_SIZE, 2) + 1):
                        measured = self.change(side)
                        if repetition:
                            sizes[side.name][size].append(measured)
            for side, prefix in ((self.platform, ""), (self.seed, "seed_")):
                changes = sizes[side.name][size]
                series = outcome.add_series(f"{prefix}change_visible_{size}", "ms", [change.visible for change in changes])
                for phase in changes[0].phases:
                    outcome.add_series(f"{prefix}phase_{phase}_{size}", "ms", [change.phases[phase] for change in changes])
                figures.set(f"{prefix}change_visible_{size}_median_ms", series.summary().median)
                memory = self.memory(side)
                figures.set(f"{prefix}nginx_{size}_mb", memory[side.nginx_unit])
                figures.set(f"{prefix}template_{size}_mb", memory[side.template_unit])
                if side is self.platform:
                    figures.set(f"apply_{size}_mb", memory[self.platform.apply_unit])
        rows = [
            Row(f"{name}, {size} services", [change.visible for change in sizes[name][size]], "platform" if name == "platform" else "other")
            for size in SIZES
            for name in ("platform", "seed")
        ]
        outcome.panels.append(Panel("Container started → both edges answer from it, with more services", "ms", rows))
        rows = [
            Row(f"{name}, {size} services", [figures.values[f"{prefix}first_visible_{size}_ms"] / 1000], "other" if prefix else "platform")
            for size in SIZES
            for name, prefix in (("platform", ""), ("seed", "seed_"))
        ]
        outcome.panels.append(Panel("consul-template started → both edges serve everything", "s", rows))
        rows = [
            Row(f"{name}, {size} services", [figures.values[f"{prefix}nginx_{size}_mb"] + figures.values[f"{prefix}template_{size}_mb"]], kind)
            for size in SIZES
            for name, prefix, kind in (("platform", "", "platform"), ("seed", "seed_", "other"))
        ]
        outcome.panels.append(Panel("Memory of nginx and consul-template on one edge", "MB", rows))


def run(lab: Lab, options: Options) -> Outcome:
    """Run the suite, or some parts of it."""
    bench = EdgeBench(lab, options)
    bench.outcome.settings.update(
        changes=CHANGE_BLOCKS * CHANGES_PER_BLOCK,
        wrk={"rounds": ROUNDS, "seconds": WRK_SECONDS, "connections": CONNECTIONS},
        reloads=RELOADS,
        comings=COMINGS,
        sizes=list(SIZES),
        warm_up="the first change of each side, and one run of wrk for each candidate, are not counted",
    )
    parts = {
        "change": bench.part_change,
        "lifecycle": bench.part_lifecycle,
        "throughput": bench.part_throughput,
        "reloads": bench.part_reloads,
        "churn": bench.part_churn,
        "growth": bench.part_growth,
    }
    options.run(bench.set_up, parts, bench.tear_down)
    return bench.outcome
