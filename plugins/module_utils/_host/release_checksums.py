# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SHA-256 of the official releases that are the defaults, for Linux, and the rule what else may vouch for a download.

Private to the collection. A mirror lists checksums of its own, and whoever can replace an archive there can replace
the list as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .artifact import ArtifactError, archive_name

#: From the SHA256SUMS that HashiCorp signs, by product, version and architecture.
OFFICIAL: dict[tuple[str, str], dict[str, str]] = {
    ("consul", "1.22.5"): {
        "amd64": "58603b87fd085282f882fcd02b5165c93b321692514b2ab822dec8dd4cd028a3",
        "arm": "b3b5765fb2641111fbdae0f11ac77fa823f49fcd5e8121601811b1d322a93d87",
        "arm64": "e13bafeb1f5c11b16ca8087387a5ef5b6f7799018f91d5a0705c64c06c5ad61d",
    },
    ("consul-template", "0.42.1"): {
        "amd64": "ab86817a4acf619c6612d99b8e11496a81027f2b84632887c941c3e7d43cbaa7",
        "arm": "63ed2c349072f0d5cdee168650d849ab073c0df647baf4778a25d6ce25a0eba6",
        "arm64": "125afde2fef95fef6e65eb596120e9b45edc9f76f78d001438974f1121abdfaa",
    },
}
_DIGEST = re.compile(r"[0-9a-f]{64}")


def known_checksum(product: str, version: str, architecture: str, given: Mapping[str, str] | None = None) -> str:
    """Return what is known of an archive without asking a mirror; empty when nothing is.

    Args:
        product: the name of the product.
        version: its version.
        architecture: the architecture in the names of releases, such as amd64.
        given: checksums by architecture that the operator gives; they count before those of the collection.
    """
    digest = str((given or {}).get(architecture) or OFFICIAL.get((product, version), {}).get(architecture, "")).lower()
    if digest and not _DIGEST.fullmatch(digest):
        what = f"{product} {version} {architecture}"
        raise ArtifactError(f"the checksum {digest!r} for {what} is not a SHA-256; give its 64 hexadecimal digits")
    return digest


def vouched_checksum(
    product: str,
    version: str,
    architecture: str,
    url: str,
    listed: str,
    given: Mapping[str, str] | None = None,
    trust: bool = False,
    unencrypted: bool = False,
) -> str:
    """Return the checksum that a download must have.

    Args:
        product: the name of the product.
        version: its version.
        architecture: the architecture in the names of releases.
        url: the mirror, an http:// or https:// address.
        listed: what the mirror's own list says.
        given: checksums by architecture that the operator gives.
        trust: whether the mirror's own list counts for a version of which nothing is known.
        unencrypted: whether it counts even when it comes over http://, where everyone on the way can change it.
    """
    archive = archive_name(product, version, architecture)
    known = known_checksum(product, version, architecture, given)
    role = "consul_server" if product == "consul" else product.replace("-", "_")
    variable = f"{role}_checksums: {{{architecture}: ...}}"
    if known:
        if listed != known:
            raise ArtifactError(
                f"the mirror offers {archive} with the checksum {listed}, and that of the release is {known};"
                f" use another mirror, or give the checksum of an archive that you built yourself with {variable}"
            )
        return known
    if not trust:
        raise ArtifactError(
            f"no checksum of {archive} is known, and the mirror's own list proves nothing about the mirror;"
            f" give its SHA-256 from a source that you trust with {variable},"
            " or let the list count with platform_trust_mirror_checksums: true"
        )
    if url.startswith("http://") and not unencrypted:
        raise ArtifactError(
            f"no checksum of {archive} is known, and the mirror's list comes over http://,"
            f" where it can be changed on the way; use https://, give the SHA-256 with {variable},"
            " or set platform_allow_unencrypted_mirror: true"
        )
    return listed
