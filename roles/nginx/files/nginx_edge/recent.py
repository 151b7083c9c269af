# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read lately, by its text: of a thousand services a change is about one, and reading the others again is what it would wait for. No I/O."""

from __future__ import annotations

from typing import Callable, Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Keeps what was made of texts. Whoever gets it shares it, and must not change it.

    What was not asked for while ``limit`` characters came in is forgotten: a bound on what is kept, whatever the texts are, in a program that stays."""

    def __init__(self, make: Callable[[str], T], limit: int) -> None:
        self.make = make
        self.limit = limit
        self.size = 0
        self.young: dict[str, T] = {}
        self.old: dict[str, T] = {}

    def get(self, text: str) -> T:
        """What is made of a text; raises what making it raises."""
        if text not in self.young:
            made = self.old[text] if text in self.old else self.make(text)
            if self.size > self.limit:
                self.young, self.old, self.size = {}, self.young, 0
            self.young[text] = made
            self.size += len(text)
        return self.young[text]
