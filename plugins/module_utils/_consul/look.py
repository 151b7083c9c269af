# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service name looks like, so that no other name is taken for a protected one.

The registration engine on the nodes and the generators of the edge on the control node share it: the file ``look.py``
of the role registrator is a link to this one. Python 3.9.

The idea is the skeleton of Unicode's UTS 39 (https://www.unicode.org/reports/tr39/#Confusable_Detection): two names
that people take for each other have the same one. Names have letters, digits, ``-``, ``_`` and ``.`` here, for which
the table of UTS 39 (confusables.txt) has four rows: ``0`` and ``O``, ``1`` and ``l``, ``I`` and ``l``, ``m`` and
``rn``. DNS does not distinguish upper and lower case, so what looks like a capital counts as well: ``i`` is ``I``. Two
more pairs look alike in proportional fonts: ``w`` and ``vv``, ``d`` and ``cl``. Separators are hardly seen, least of
all doubled or at an end. Digits that only stand for a letter in jest (``5`` for ``s``) do not look like it: they
number instances, and those stay apart.
"""

from __future__ import annotations

# Nothing on the right is on the left as well, so the order does not matter and a skeleton is its own skeleton.
SEPARATORS = (("-", ""), ("_", ""), (".", ""))
LETTERS = (("0", "o"), ("1", "l"), ("i", "l"), ("m", "rn"), ("w", "vv"), ("d", "cl"))

# A label that begins like this is shown with other letters than it has: IDNA writes those of all scripts so.
PUNYCODE = "xn--"


def look(name: str) -> str:
    """Return what all names that look like this one have in common."""
    skeleton = name.lower()
    for seen, common in (*SEPARATORS, *LETTERS):
        skeleton = skeleton.replace(seen, common)
    return skeleton


def has_punycode(name: str) -> bool:
    """Return whether a label of the name is shown with other letters than it has."""
    return any(label.startswith(PUNYCODE) for label in name.lower().split("."))
