# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When certificates end. Private to the collection, pure."""

from __future__ import annotations

import datetime
import typing as t
from collections.abc import Mapping, Sequence

try:
    from cryptography import x509
except ImportError:
    # ansible-core brings it along, but Ansible wants to be able to load every plugin without it.
    HAS_CRYPTOGRAPHY = False
else:
    HAS_CRYPTOGRAPHY = True


class Expiry(t.NamedTuple):
    """When the certificates of a host end."""

    #: Whole days left, by file; the first certificate of a file to end counts.
    days: dict[str, int]
    #: One text for each file that ends too soon or can't be read.
    ending: list[str]


def expiry(files: Mapping[str, Sequence[str]], limit: int, now: datetime.datetime) -> Expiry:
    """Find the files whose first certificate to end has less than ``limit`` days left.

    Args:
        files: by path, the certificates in it, as PEM.
        limit: how many days must be left.
        now: the time, with its zone.
    """
    if not HAS_CRYPTOGRAPHY:
        return Expiry({}, ["Python of the control node lacks the library cryptography; install it with pip"])
    days: dict[str, int] = {}
    ending = []
    for path, texts in sorted(files.items()):
        try:
            last = min(x509.load_pem_x509_certificate(text.encode()).not_valid_after_utc for text in texts)
        except ValueError as error:
            # No certificate, or one that can't be read, is none that lasts.
            ending.append(f"{path} has no certificate that can be read ({str(error).splitlines()[0]})")
            continue
        days[path] = (last - now).days
        if last <= now:
            ending.append(f"{path} ended on {last:%Y-%m-%d %H:%M} UTC")
        elif days[path] < limit:
            ending.append(f"{path} ends in {days[path]} days, on {last:%Y-%m-%d}")
    return Expiry(days, ending)
