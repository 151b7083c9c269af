# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of everything in a bundle, with versions and hashes, as CycloneDX 1.5."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import tarfile
import typing as t
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import packages
import yaml

#: Where the name of the list is looked for: at the top of the bundle.
NAME = "sbom.cdx.json"
MODULES = "github.com/hashicorp"

Component = dict[str, t.Any]


def component(
    kind: str,
    name: str,
    version: str,
    purl: str,
    digest: str,
    reference: str = "",
    **properties: str,
) -> Component:
    """Return one entry of the list. Entries of the same version differ in their reference."""
    made: Component = {
        "type": kind,
        "bom-ref": reference or purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }
    if properties:
        made["properties"] = [{"name": f"trinode:{key}", "value": value} for key, value in sorted(properties.items())]
    return made


def binaries(files: Mapping[str, Path]) -> Iterator[Component]:
    """Find the releases of Consul and consul-template by the names of their archives."""
    for name, path in files.items():
        match = re.fullmatch(r"artifacts/([a-z-]+)/([^/]+)/[^/]+\.zip", name)
        if match:
            product, version = match.groups()
            purl = f"pkg:golang/{MODULES}/{product}@v{version}"
            yield component("application", product, version, purl, packages.sha256(path), file=name)


def images(files: Mapping[str, Path], version: str) -> Iterator[Component]:
    """Find the sample images, which are built from this checkout."""
    for name, path in files.items():
        if name.startswith("artifacts/images/") and name.endswith(".tar"):
            purl = f"pkg:generic/{path.stem}@{quote(version)}"
            yield component("container", path.stem, version, purl, packages.sha256(path), file=name)


def wheels(files: Mapping[str, Path]) -> Iterator[Component]:
    """Find the Python packages of the control node."""
    for name, path in files.items():
        if name.startswith("wheels/") and name.endswith(".whl"):
            project, version = path.name.split("-")[:2]
            project = re.sub(r"[-_.]+", "-", project).lower()
            purl = f"pkg:pypi/{project}@{quote(version)}"
            yield component("library", project, version, purl, packages.sha256(path), f"{purl}#{path.name}", file=name)


def collections(files: Mapping[str, Path], wanted: Sequence[str]) -> Iterator[Component]:
    """Find the collections that the platform depends on, in the wheel that brings them."""
    for name, path in files.items():
        if not re.fullmatch(r"wheels/ansible-[0-9][^/]*\.whl", name):
            continue
        with zipfile.ZipFile(path) as wheel:
            for collection in wanted:
                manifest = wheel.read(f"ansible_collections/{collection.replace('.', '/')}/MANIFEST.json")
                version = str(json.loads(manifest)["collection_info"]["version"])
                purl = f"pkg:generic/{collection}@{quote(version)}"
                digest = hashlib.sha256(manifest).hexdigest()
                yield component("library", collection, version, purl, digest, hashed="MANIFEST.json", file=name)


def distribution_packages(files: Mapping[str, Path]) -> Iterator[Component]:
    """Find the distribution's packages in the index of each suite's archive."""
    for suite, (distribution, _major) in packages.SUITES.items():
        for name, path in files.items():
            if re.fullmatch(rf"artifacts/packages/{suite}_[a-z0-9]+\.tar", name):
                for entry in index_of(path):
                    architecture, version = entry["Architecture"], entry["Version"]
                    purl = f"pkg:deb/{distribution.lower()}/{quote(entry['Package'])}@{quote(version, safe='')}"
                    purl += f"?arch={architecture}&distro={suite}"
                    yield component("library", entry["Package"], version, purl, entry["SHA256"], file=name)


def index_of(archive: Path) -> Iterator[dict[str, str]]:
    """Return the paragraphs of the index in an archive of packages."""
    with tarfile.open(archive) as opened:
        text = t.cast("t.IO[bytes]", opened.extractfile("Packages")).read().decode("utf-8")
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+):[ \t]*(.*)$", paragraph, re.MULTILINE))
        if fields:
            yield fields


def make_sbom(version: str, commit: str, seconds: int, galaxy: str, files: Mapping[str, Path]) -> str:
    """Return the list as JSON, equal for equal bundles.

    Args:
        version: the version of the collection.
        commit: the commit that is in the bundle.
        seconds: when that was made.
        galaxy: the text of galaxy.yml.
        files: the other files by their names in the bundle.
    """
    wanted = sorted(yaml.safe_load(galaxy)["dependencies"])
    found = [
        *binaries(files),
        *images(files, version),
        *wheels(files),
        *collections(files, wanted),
        *distribution_packages(files),
    ]
    listed = {entry["bom-ref"]: entry for entry in found}
    listing = json.dumps([listed[key] for key in sorted(listed)], sort_keys=True)
    checkout = quote(f"git+https://github.com/trinode/platform@{commit}", safe="")
    subject = {
        "type": "application",
        "bom-ref": "trinode.platform",
        "name": "trinode.platform",
        "version": version,
        "purl": f"pkg:generic/trinode.platform@{quote(version)}?vcs_url={checkout}",
        "licenses": [{"license": {"id": "GPL-3.0-or-later"}}],
    }
    made = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, commit + listing)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": subject,
        },
        "components": json.loads(listing),
        "dependencies": [{"ref": "trinode.platform", "dependsOn": sorted(listed)}],
    }
    return json.dumps(made, indent=1, sort_keys=True) + "\n"
