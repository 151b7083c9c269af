# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What secure sites that know each other have in common: made from one file of each site, whoever gave his first.

Private to the collection. No Ansible import. No message holds a part of a secret.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import json
import typing as t
import uuid
from collections.abc import Mapping, Sequence

from .._certificates import foreign_authority
from .._certificates.foreign_authority import AuthorityError

SHARE_BYTES = 32
#: The name of a site's file among the secrets, without its ending.
PREFIX = "site_"


class SiteError(Exception):
    """A site's file is of no use; the message is a half sentence."""


class Site(t.NamedTuple):
    """What a site gives to the others."""

    datacenter: str
    domain: str
    #: The certificates of its authorities, PEM.
    authority: str
    #: Its part of the common secrets.
    share: str

    @property
    def names(self) -> str:
        """The domain of its nodes and servers, which another site's authority must issue nothing in."""
        return f"{self.datacenter}.{self.domain}"


class Fault(t.NamedTuple):
    """Why sites cannot be joined."""

    message: str
    remedy: str


class Common(t.NamedTuple):
    """What the sites have in common, as one of them needs it; empty when there are faults, or no other site."""

    faults: Sequence[Fault] = ()
    warnings: Sequence[Fault] = ()
    gossip_key: str = ""
    token: str = ""
    #: The authorities of the others, PEM; none of them for names of this site or of a third one.
    authorities: str = ""


def write(site: Site) -> str:
    """The text of a site's file."""
    _share(site.share)
    return json.dumps(site._replace(authority=foreign_authority.certificates(site.authority))._asdict(), sort_keys=True)


def read(text: str) -> Site:
    """The site of a file's text."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SiteError("is no file that a site gives to others") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in Site._fields):
        raise SiteError("is no file that a site gives to others")
    site = Site(**{key: found[key].strip() for key in Site._fields})
    _share(site.share)
    try:
        foreign_authority.read(site.authority)
    except AuthorityError as error:
        raise SiteError(f"has an authority of no use: {error}") from error
    return site


def _share(text: str) -> None:
    try:
        if len(base64.b64decode(text, validate=True)) == SHARE_BYTES:
            return
    except (binascii.Error, ValueError):
        pass
    raise SiteError(f"has a share that is not {SHARE_BYTES} bytes in base64")


def common(own: Site, others: Mapping[str, str], now: datetime.datetime, directory: str = "") -> Common:
    """What this site has in common with all others that it names.

    Args:
        own: this site. Its authority is not looked at.
        others: the texts of the files of the others by the data centres that the inventory names; empty where there is none.
        now: the time for which to judge.
        directory: where the files are, for the messages.
    """
    faults: list[Fault] = []
    warnings: list[Fault] = []
    sites: list[Site] = []
    for name, text in others.items():
        path = f"{directory}/{PREFIX}{name}.txt"
        again = f"bring that site's present file {PREFIX}{name}.txt"
        if not text.strip():
            faults.append(
                Fault(
                    f"the keys of the data centre {name}, which platform_security: secure takes, are not here ({path})",
                    f"copy {PREFIX}{name}.txt from the secrets of that site, which its site.yml makes, and this site's {PREFIX}{own.datacenter}.txt to there,"
                    " or leave it out of platform_wan_datacenters until then",
                )
            )
            continue
        try:
            site = read(text)
        except SiteError as error:
            faults.append(Fault(f"the file {path} {error}", again))
            continue
        if site.datacenter != name:
            faults.append(Fault(f"the file {path} is the one of the data centre {site.datacenter}", again))
        elif site.domain.lower() != own.domain.lower():
            faults.append(
                Fault(f"the data centre {name} has the domain {site.domain!r}, and this site has {own.domain!r}", "give both sites the same platform_domain")
            )
        elif site.share == own.share:
            faults.append(
                Fault(
                    f"the data centre {name} has the same secrets as this site ({path})",
                    "let each site make its own, in a directory of its own (platform_secrets_directory)",
                )
            )
        else:
            if all(one.not_valid_after_utc <= now for one in foreign_authority.read(site.authority)):
                warnings.append(Fault(f"the authority of the data centre {name} has ended ({path}), so its servers are not believed", again))
            sites.append(site)
    if faults or not sites:
        return Common(tuple(faults), tuple(warnings))
    everybody = sorted(f"{site.datacenter} {site.share}" for site in [own, *sites])
    return Common(
        (),
        tuple(warnings),
        base64.b64encode(_derive("gossip", everybody)).decode(),
        str(uuid.UUID(bytes=_derive("token", everybody)[:16], version=4)),
        "\n".join(foreign_authority.restrict(site.authority, [one.names for one in [own, *sites] if one is not site]) for site in sites),
    )


def _derive(purpose: str, shares: Sequence[str]) -> bytes:
    # Whoever lacks one share knows nothing, and the order in which the sites came does not matter.
    return hashlib.sha256("\n".join(["trinode.platform", purpose, *shares]).encode()).digest()
