# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook itself: how long it takes on bare nodes, again, and after one change. On nodes of its own, made and removed here."""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
import typing as t
from pathlib import Path

from bench.figures import Figure, Figures, Target
from bench.lab import NODE_NAMES, Lab, LabError, docker
from bench.options import Options
from bench.play import Run, demo, play, slowest
from bench.report import Outcome, Table
from bench.stats import percentile
from bench.svg import Panel, Row

FIRSTS, REPETITIONS = 2, 3
SLOWEST = 10
ARCHIVES = "/var/cache/apt/archives"
# A setting of every service at the edge: both edges get a new template and check the configuration that it makes.
VALUES = ("101m", "102m")

PARTS = ("secure", "open")

FIGURES = (
    Figure(
        "secure_first_uncached_seconds",
        "s",
        "`site.yml` on three bare nodes, secure form, including the creation of secrets; packages from the distribution's mirror",
    ),
    Figure("secure_second_median_seconds", "s", f"the same again without changes; median of {REPETITIONS}"),
    Figure("secure_second_changed", "changes", "changes that Ansible reported in these", Target("<=", 0)),
    Figure(
        "first_median_seconds",
        "s",
        f"`site.yml` on three bare nodes, open form, packages cached on the nodes; median of {FIRSTS} sets of nodes",
        Target("<=", 240),
    ),
    Figure("second_median_seconds", "s", f"the same again without changes; median of {FIRSTS} times {REPETITIONS}", Target("<=", 40)),
    Figure("second_changed", "changes", "changes that Ansible reported in these", Target("<=", 0)),
    Figure(
        "variable_median_seconds",
        "s",
        f"`site.yml --tags edge` with another `client_max_body_size` of the edges; median of {FIRSTS} times {REPETITIONS}",
        Target("<=", 25),
    ),
    Figure("variable_whole_median_seconds", "s", f"the same change by the whole `site.yml`; median of {FIRSTS} times {REPETITIONS}"),
    Figure("second_tasks_seconds", "s", f"time of the {SLOWEST} slowest tasks of a second run, open form, in the median run"),
)


def bare_name(lab: str) -> str:
    """The name of the bare nodes beside a lab."""
    return f"{lab}-bare"


class ConvergeBench:
    """The run of the suite."""

    def __init__(self, lab: Lab, options: Options) -> None:
        self.name = bare_name(lab.name)
        self.network = options.bare_network
        self.options = options
        self.outcome = Outcome("converge", "The playbook on three nodes", Figures(FIGURES))
        self.runs: dict[str, list[Run]] = {}

    def containers(self) -> list[str]:
        """The bare nodes."""
        return [f"{self.name}-{node}" for node in NODE_NAMES]

    @contextlib.contextmanager
    def bare_nodes(self) -> t.Iterator[None]:
        """A set of bare nodes, for a while."""
        self.options.say(f"bare nodes {self.name} in {self.network}.0/24")
        # What an earlier run that was killed left is not bare.
        demo("down", self.name, self.network)
        try:
            demo("nodes", self.name, self.network)
            yield
        finally:
            self.options.say(f"removing {self.name}")
            demo("down", self.name, self.network)

    def site(self, kind: str, *arguments: str, variables: t.Mapping[str, t.Any] | None = None) -> Run:
        """Play the site and keep the run under its kind."""
        run = play("site.yml", self.name, self.network, *arguments, variables=variables)
        self.runs.setdefault(kind, []).append(run)
        self.options.say(f"{kind}: {run.seconds:.1f} s, {run.changed} changes")
        return run

    # -- packages ---------------------------------------------------------------------------------------------------------

    def keep_packages(self, directory: Path) -> None:
        """Take the packages that the nodes have downloaded."""
        for container in self.containers():
            listed = docker("exec", container, "sh", "-c", f"cd {ARCHIVES} && ls *.deb 2>/dev/null; true").stdout.decode().split()
            if not listed:
                continue
            archive = directory / f"{container}.tar"
            archive.write_bytes(docker("exec", container, "tar", "-C", ARCHIVES, "-c", *listed, timeout=300).stdout)
            with tarfile.open(archive) as bundle:
                for member in bundle.getmembers():
                    content = bundle.extractfile(member) if member.isfile() else None
                    if content is not None:
                        (directory / Path(member.name).name).write_bytes(content.read())
            archive.unlink()

    def give_packages(self, directory: Path) -> None:
        """Put them where the nodes' apt looks first."""
        packages = sorted(directory.glob("*.deb"))
        if not packages:
            self.outcome.note(
                "The first runs of the open form downloaded their packages: there were none to cache, because the part secure did not run before."
            )
            return
        self.outcome.settings["cached_packages"] = len(packages)
        archive = directory / "all.tar"
        with tarfile.open(archive, "w") as bundle:
            for package in packages:
                bundle.add(package, package.name)
        data = archive.read_bytes()
        archive.unlink()
        for container in self.containers():
            docker("exec", "-i", container, "tar", "-C", ARCHIVES, "--no-same-owner", "-x", data=data, timeout=300)

    # -- parts ------------------------------------------------------------------------------------------------------------

    def change(self, kind: str, value: str, *arguments: str) -> Run:
        """Play the site with another setting of the edges."""
        run = self.site(kind, *arguments, variables={"platform_edge": {"client_max_body_size": value}})
        missing = [edge for edge in NODE_NAMES[:2] if not run.hosts.get(edge) or run.hosts[edge].changed == 0]
        if missing:
            raise LabError(f"the run with a changed variable changed nothing on {', '.join(missing)}, so its time would mean nothing")
        return run

    def part_secure(self, packages: Path) -> None:
        """The secure form. Its nodes are the first, so they also get the packages for the others."""
        figures = self.outcome.figures
        with self.bare_nodes(), tempfile.TemporaryDirectory() as secrets:
            variables = {"platform_security": "secure", "platform_secrets_directory": secrets}
            first = self.site("secure, first", variables=variables)
            self.keep_packages(packages)
            seconds = [self.site("secure, second", variables=variables) for _ in range(self.options.few(REPETITIONS))]
        figures.set("secure_first_uncached_seconds", first.seconds)
        figures.set("secure_second_median_seconds", self.series("secure_second", seconds))
        figures.set("secure_second_changed", sum(run.changed for run in seconds))

    def part_open(self, packages: Path) -> None:
        """The open form: bare, again, and with one changed variable."""
        figures = self.outcome.figures
        firsts, seconds, variables, wholes = [], [], [], []
        for _ in range(self.options.few(FIRSTS)):
            with self.bare_nodes():
                self.give_packages(packages)
                firsts.append(self.site("first"))
                # Before the others, because a run with a changed variable makes the next one without it a changed one, too.
                seconds += [self.site("second") for _ in range(self.options.few(REPETITIONS))]
                for _ in range(self.options.few(REPETITIONS)):
                    variables.append(self.change("one changed variable, --tags edge", VALUES[0], "--tags", "edge"))
                    wholes.append(self.change("one changed variable", VALUES[1]))
        figures.set("first_median_seconds", self.series("first", firsts))
        figures.set("second_median_seconds", self.series("second", seconds))
        figures.set("second_changed", sum(run.changed for run in seconds))
        figures.set("variable_median_seconds", self.series("variable", variables))
        figures.set("variable_whole_median_seconds", self.series("variable_whole", wholes))
        figures.set("second_tasks_seconds", sum(percentile(times, 0.5) for _, times in slowest([run.tasks for run in seconds], SLOWEST)))

    def series(self, name: str, runs: t.Sequence[Run]) -> float:
        """Keep the times of some runs; gives their median."""
        return self.outcome.add_series(name, "s", [run.seconds for run in runs]).summary().median

    def report(self) -> None:
        """Pictures, and the slowest tasks of each kind of run."""
        outcome = self.outcome
        outcome.panels.append(Panel("site.yml on three nodes", "s", [Row(kind, [run.seconds for run in runs], "platform") for kind, runs in self.runs.items()]))
        for kind, runs in self.runs.items():
            rows = slowest([run.tasks for run in runs], SLOWEST)
            outcome.tables.append(
                Table(
                    f"Slowest tasks: {kind}",
                    ["task", "median s", "least", "most", "runs"],
                    [[name.replace("|", "/"), percentile(times, 0.5), min(times), max(times), len(times)] for name, times in rows],
                )
            )
            if kind in ("second", "one changed variable"):
                outcome.panels.append(Panel(f"Slowest tasks: {kind}", "s", [Row(shortened(name), times, "platform") for name, times in rows]))
            changed = [run.changed for run in runs]
            if kind.endswith("second") and any(changed):
                outcome.note(f"Runs that had nothing to do ({kind}) reported changes: {', '.join(map(str, changed))}.")


def shortened(name: str, most: int = 36) -> str:
    """A task's name without its role, so that it fits beside a bar."""
    name = name.rpartition(" : ")[2]
    return name if len(name) <= most else f"{name[: most - 1]}…"


def run(lab: Lab, options: Options) -> Outcome:
    """Run the suite, or some parts of it."""
    bench = ConvergeBench(lab, options)
    bench.outcome.settings.update(first_runs=FIRSTS, repetitions=REPETITIONS, variable="platform_edge.client_max_body_size", values=list(VALUES))
    parts = {"secure": bench.part_secure, "open": bench.part_open}
    with tempfile.TemporaryDirectory() as packages:
        for name in PARTS:
            if options.wants(name):
                options.say(f"part {name}")
                parts[name](Path(packages))
    bench.report()
    return bench.outcome
