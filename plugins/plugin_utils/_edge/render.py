# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the consul-template sources in ``templates/``. Private to the collection.

Jinja2 has delimiters of its own there (``<< >>``, ``<% %>``, ``<# #>``), because its usual ones are those of Go templates.
"""

from __future__ import annotations

import functools
import typing as t
from pathlib import Path

import jinja2

from . import go

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        # The values are checked by the schema, and the output is no HTML.
        autoescape=False,  # noqa: S701
    )
    environment.filters |= {
        "go_string": go.go_string,
        "go_ranges": lambda ranges, variable: go.go_ranges(variable, ranges),
        "go_host_labels": go.go_host_labels,
        "go_alike": go.go_alike,
        "tagged": go.go_tagged,
        "quoted": go.quoted,
    }
    return environment


def render(template: str, values: t.Mapping[str, t.Any]) -> str:
    """Return a template of ``templates/`` with these values, without empty lines.

    Raises:
        jinja2.UndefinedError: a value is missing, which is a fault of this collection.
    """
    text = _environment().get_template(template).render(values)
    return "\n".join(line for line in text.split("\n") if line.strip()) + "\n"
