# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between a generator and Ansible: errors in Ansible's form, and a result that is never templated again. Private to the collection."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var

from .schema import EdgeError

T = t.TypeVar("T")


def generate(filter_name: str, generator: t.Callable[[t.Any], T], edge: t.Any) -> T:
    """What the generator makes of the edge description, for the filter of this name."""
    try:
        made = generator(edge)
    except EdgeError as error:
        raise AnsibleFilterError(f"trinode.platform.{filter_name}: the edge description is wrong: {error}") from error
    # Sources hold {{ }} of Go templates, which are none of Ansible's business.
    return t.cast(T, wrap_var(made))
