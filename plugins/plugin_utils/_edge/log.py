# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client writes into the access logs, cut to a bounded length. Private to the collection. No Ansible import."""

from __future__ import annotations

from .gotemplate import fill

CUT = "# What a client writes is cut in the log: nginx takes a request line of 64 kB, and headers of the same length."
_CUT = """\
map @VARIABLE@ $edge_logged_@NAME@ {
    default @VARIABLE@;
    "~(?s)^(?<edge_start_of_@NAME@>.{@LENGTH@})." "$edge_start_of_@NAME@...";
}"""


def cut(variable: str, name: str, length: int) -> str:
    """Return the map that gives $edge_logged_NAME the first characters of a variable, and "..." where more follow."""
    return fill(_CUT, variable=variable, name=name, length=length)
