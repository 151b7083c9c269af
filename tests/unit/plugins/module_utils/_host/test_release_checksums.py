# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vouches for a release besides the mirror that it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host.artifact import ArtifactError
from ansible_collections.trinode.platform.plugins.module_utils._host.release_checksums import (
    OFFICIAL,
    known_checksum,
    vouched_checksum,
)

ROOT = Path(__file__).resolve().parents[5]
RIGHT = OFFICIAL["consul", "1.22.5"]["amd64"]
HTTPS, HTTP = "https://mirror.example/consul/SHA256SUMS", "http://mirror.example/consul/SHA256SUMS"


def test_every_default_version_is_known() -> None:
    """The preflight supports these two architectures."""
    products = json.loads((ROOT / "tools" / "artifacts" / "products.json").read_text(encoding="utf-8"))["products"]
    for product in products:
        if product["default"]:
            assert {"amd64", "arm64"} <= set(OFFICIAL[product["name"], product["version"]])
    digests = [known_checksum(*release, arch) for release, arches in OFFICIAL.items() for arch in arches]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("url", [HTTPS, HTTP])
@pytest.mark.parametrize("trust", [False, True])
def test_a_mirror_does_not_replace_a_known_release(url: str, trust: bool) -> None:
    with pytest.raises(ArtifactError, match=r"with the checksum 0{64}, and that of the release is 58603b87.*consul_server_checksums"):
        vouched_checksum("consul", "1.22.5", "amd64", url, "0" * 64, trust=trust, unencrypted=trust)
    # What comes with the right checksum is right, wherever it comes from.
    assert vouched_checksum("consul", "1.22.5", "amd64", url, RIGHT) == RIGHT


def test_a_checksum_of_the_operator_counts_first() -> None:
    own = {"amd64": "A" * 64}
    assert vouched_checksum("consul", "1.22.5", "amd64", HTTP, "a" * 64, own) == "a" * 64
    with pytest.raises(ArtifactError, match="use another mirror"):
        vouched_checksum("consul", "1.22.5", "amd64", HTTPS, RIGHT, own)
    with pytest.raises(ArtifactError, match="is not a SHA-256"):
        vouched_checksum("consul", "1.22.5", "amd64", HTTPS, RIGHT, {"amd64": "sha256:1"})


def test_another_version_needs_a_word() -> None:
    with pytest.raises(ArtifactError, match=r"consul_template_checksums.*platform_trust_mirror_checksums: true"):
        vouched_checksum("consul-template", "0.50.0", "amd64", HTTPS, RIGHT)
    assert vouched_checksum("consul-template", "0.50.0", "amd64", HTTPS, RIGHT, trust=True) == RIGHT
    with pytest.raises(ArtifactError, match="platform_allow_unencrypted_mirror: true"):
        vouched_checksum("consul-template", "0.50.0", "amd64", HTTP, RIGHT, trust=True)
    with pytest.raises(ArtifactError, match="platform_trust_mirror_checksums"):
        vouched_checksum("consul-template", "0.50.0", "amd64", HTTP, RIGHT, unencrypted=True)
    assert vouched_checksum("consul-template", "0.50.0", "amd64", HTTP, RIGHT, trust=True, unencrypted=True) == RIGHT
