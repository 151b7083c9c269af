# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: `python -m bench SUITE`, against nodes that run already. `make bench` makes them first."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from bench import report
from bench.figures import markdown_table
from bench.lab import Lab, LabError
from bench.options import Options
from bench.suites import SUITES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
# A run of some parts only, or a short one, does not replace the results of a whole one.
PARTIAL_RESULTS = ROOT / "build" / "bench"


def arguments(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure the platform on three running nodes.")
    parser.add_argument("suite", nargs="?", default="all", choices=["all", *SUITES], help="what to measure (default: %(default)s)")
    parser.add_argument("--lab", default=os.environ.get("LAB_NAME") or "trinode-bench", help="first part of the nodes' container names (default: %(default)s)")
    parser.add_argument("--network", default=os.environ.get("LAB_NETWORK") or "172.30.98", help="first three numbers of their network (default: %(default)s)")
    parser.add_argument("--part", action="append", default=[], metavar="PART", help="only this part of the suite; may be repeated")
    parser.add_argument(
        "--containers", type=int, default=int(os.environ.get("BENCH_CONTAINERS") or 500), help="containers for the resync (default: %(default)s)"
    )
    parser.add_argument(
        "--bare-network",
        default=os.environ.get("BENCH_BARE_NETWORK") or "172.30.97",
        help="first three numbers of the network of the bare nodes of the suite converge (default: %(default)s)",
    )
    parser.add_argument("--short", action="store_true", help="a fourth of the repetitions, to see whether everything works; results go to build/bench/")
    parser.add_argument("--figures", action="store_true", help="print the table of all figures for the README, and end")
    options = parser.parse_args(words)
    suites = list(SUITES) if options.suite == "all" else [options.suite]
    for part in options.part:
        if not any(part in SUITES[name].parts for name in suites):
            known = "; ".join(f"{name}: {', '.join(SUITES[name].parts)}" for name in suites)
            parser.error(f"there is no part {part}; there are: {known}")
    if options.containers < 1:
        parser.error(f"--containers is {options.containers}, but it must be at least 1")
    options.suites = [name for name in suites if not options.part or set(options.part) & set(SUITES[name].parts)]
    return options


def readme_tables() -> str:
    """The tables of figures of every suite."""
    return "\n\n".join(f"### Suite `{name}`\n\n{markdown_table(suite.figures)}" for name, suite in SUITES.items())


def _ended(*_: object) -> None:
    print("ended from outside; what the benchmark made is being removed", file=sys.stderr, flush=True)
    sys.exit(143)


def main(words: list[str]) -> int:
    """Run; the status tells whether everything could be measured, and not whether it was fast."""
    options = arguments(words)
    if options.figures:
        print(readme_tables())
        return 0
    # What runs is undone on the way out, so an end from outside takes that way, too.
    signal.signal(signal.SIGTERM, _ended)
    began = time.monotonic()

    def say(line: str) -> None:
        seconds = int(time.monotonic() - began)
        print(f"{seconds // 60:3d}:{seconds % 60:02d} {line}", flush=True)

    settings = Options(tuple(options.part), options.containers, say, options.short, options.bare_network)
    partial = bool(options.part) or options.short
    try:
        for name in options.suites:
            lab = Lab.find(options.lab, options.network) if SUITES[name].nodes else Lab(options.lab, ())
            say(f"suite {name} on {', '.join(node.container for node in lab.nodes) or 'nodes of its own'}")
            host, started, clock = report.machine(), time.time(), time.monotonic()
            outcome = SUITES[name].run(lab, settings)
            if options.short:
                outcome.note("A short run, which shows that everything works: a fourth of the repetitions, and of the time.")
            document = report.as_document(outcome, host, report.revision(ROOT), started, time.monotonic() - clock)
            paths = report.write(outcome, PARTIAL_RESULTS if partial else RESULTS, document)
            print(f"\n{report.screen(document)}\n", flush=True)
            missing = outcome.figures.missing()
            if missing and not options.part:
                say(f"not measured: {', '.join(missing)}")
            say(f"written: {', '.join(str(path.relative_to(ROOT)) for path in paths)}")
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what the benchmark made on the nodes was removed", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
