# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line says to a suite."""

from __future__ import annotations

import typing as t


class Options(t.NamedTuple):
    """The settings of a run."""

    #: Parts to run; empty means all.
    parts: tuple[str, ...]
    #: Containers for the resync of the suite registration.
    containers: int
    #: Shows a line of progress.
    say: t.Callable[[str], None]
    #: Whether the run only shows that everything works: a fourth of the repetitions, and of the time.
    short: bool = False
    #: The first three numbers of the network of the bare nodes of the suite converge.
    bare_network: str = ""

    def wants(self, part: str) -> bool:
        """Whether a part is to be run."""
        return not self.parts or part in self.parts

    def few(self, count: int, least: int = 1) -> int:
        """A number of repetitions, or of seconds, as this run takes it."""
        return max(least, count // 4) if self.short else count

    def run(self, set_up: t.Callable[[], None], parts: t.Mapping[str, t.Callable[[], None]], tear_down: t.Callable[[], None]) -> None:
        """Run the parts that are wanted, in their order, between a set-up and a way out that is taken whatever happens."""
        try:
            set_up()
            for name, part in parts.items():
                if self.wants(name):
                    self.say(f"part {name}")
                    part()
        finally:
            tear_down()
