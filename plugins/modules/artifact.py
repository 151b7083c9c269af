#!/usr/bin/python
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs one released binary from a mirror."""

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact
short_description: Install one released binary from a mirror
version_added: 1.0.0
description:
  - Installs one version of a product from a mirror in the layout of HashiCorp's releases.
  - The binary is put into a directory of its own for each version, and a link is moved to it by a rename. The version used before is kept,
    older ones are removed.
  - A download is compared with the checksum of the official release, which this collection has for the default
    versions. A mirror cannot replace it by a list of its own. For other versions, give O(checksums), or let the list of
    the mirror count with O(trust_mirror).
  - An archive in a directory of the control node is compared with the list in that directory, because it may have been
    built there.
  - The binary is executed once, as the user nobody, before the link is moved. A bad one never replaces a good one.
  - A version that is installed and undamaged is not fetched again, so a later run needs no mirror. A version in a mirror is expected never to change.
options:
  product:
    description:
      - The name of the product, which is also the name of its binary.
    type: str
    required: true
  version:
    description:
      - The version to install and to use.
    type: str
    required: true
  mirror:
    description:
      - An C(http://) or C(https://) URL, from which the managed node downloads, or an absolute directory on the control node, which then pushes the archive.
    type: str
    required: true
  root:
    description:
      - The directory that holds the products. The binary is installed as C(root/product/version/product).
    type: path
    default: /opt
  link_dir:
    description:
      - The directory in which the link with the product's name is made. A file there that is no link of this module is kept with the suffix C(.orig).
    type: path
    default: /usr/local/bin
  architecture:
    description:
      - The machine's architecture as the kernel names it, for example C(x86_64) or C(aarch64). The managed node's own one by default.
    type: str
  version_arguments:
    description:
      - The arguments with which the binary prints its version. Its output must contain O(version).
    type: list
    elements: str
    default: [-version]
  checksums:
    description:
      - The SHA-256 of the archive, by architecture in the names of releases, such as C(amd64). They count before those
        of this collection, and also for an archive in a directory of the control node.
    type: dict
    default: {}
  trust_mirror:
    description:
      - Whether the list of checksums of a mirror counts for a version of which no checksum is known.
    type: bool
    default: false
  allow_unencrypted_mirror:
    description:
      - Whether it counts even when it comes over C(http://).
    type: bool
    default: false
  timeout:
    description:
      - Seconds that the mirror may be silent during a download.
    type: int
    default: 30
  archive:
    description:
      - The archive on the managed node. The action plugin sets it when it has pushed the archive from a directory of the control node; leave it out.
    type: path
  checksum:
    description:
      - The SHA-256 of O(archive). The action plugin sets it; leave it out.
    type: str
attributes:
  action:
    description: Runs partly on the control node.
    support: full
  check_mode:
    description: Says what would change without changing it.
    support: full
  diff_mode:
    description: Shows the version before and after.
    support: full
  platform:
    description: Systems on which the module works.
    support: full
    platforms: posix
author:
  - Contributors to the trinode.platform project (@trinode)
"""

EXAMPLES = r"""
- name: Install Consul from a directory on the control node
  trinode.platform.artifact:
    product: consul
    version: 1.22.5
    mirror: /srv/artifacts

- name: Install consul-template from an internal server
  trinode.platform.artifact:
    product: consul-template
    version: 0.42.1
    mirror: https://mirror.hospital.example/releases
"""

RETURN = r"""
path:
  description: The installed binary.
  returned: success
  type: str
  sample: /opt/consul/1.22.5/consul
link:
  description: The link to it.
  returned: success
  type: str
  sample: /usr/local/bin/consul
version:
  description: The version in use after this task.
  returned: success
  type: str
  sample: 1.22.5
previous_version:
  description: The version in use before this task; empty when there was none.
  returned: success
  type: str
  sample: 1.20.1
reason:
  description: Why something was changed; empty when nothing was.
  returned: success
  type: str
  sample: /opt/consul/1.22.5 does not exist
removed:
  description: The older versions that were removed.
  returned: success
  type: list
  elements: str
  sample: [1.19.2]
kept:
  description: The new name of a file that was in the place of the link and is not managed here; empty when there was none.
  returned: success
  type: str
  sample: /usr/local/bin/consul.orig
"""

import errno
import os
import platform
from typing import Any
from urllib.parse import quote, urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ..module_utils._host import artifact
from ..module_utils._host.release_checksums import vouched_checksum


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def download(url: str, timeout: int, sink: str | None = None) -> bytes:
    """Fetch a URL into memory, or into the file `sink`."""
    shown = without_password(url)
    content = b""
    try:
        with open_url(url, timeout=timeout, http_agent="trinode.platform.artifact") as answer:
            if sink is None:
                content = answer.read()
            else:
                length = answer.headers.get("Content-Length")
                if length and length.isdigit():
                    artifact.require_space(os.path.dirname(sink), int(length), shown)
                with open(sink, "xb") as handle:
                    received = 0
                    while chunk := answer.read(artifact.CHUNK):
                        received += len(chunk)
                        handle.write(chunk)
                if length and length.isdigit() and received != int(length):
                    raise artifact.ArtifactError(f"the download of {shown} ended after {received} of {length} bytes; check the mirror and run again")
    except artifact.ArtifactError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES) and sink is not None:
            raise
        # HTTP errors, name resolution, refused and broken connections, certificates: all are OSError here.
        raise artifact.ArtifactError(
            f"{shown} cannot be downloaded by this host ({error}); check the mirror's address, that it is reachable from here, and that it holds this file"
        ) from error
    except Exception as error:
        raise artifact.ArtifactError(f"{shown} cannot be downloaded by this host ({type(error).__name__}: {error}); check the mirror's address") from error
    return content


def checksum_from_url(params: dict[str, Any], base: str, architecture: str) -> str:
    """Return the checksum that the archive at the mirror must have."""
    product, version = params["product"], params["version"]
    url = f"{base}/{quote(artifact.checksums_name(product, version))}"
    text = download(url, params["timeout"]).decode("utf-8", "replace")
    archive = artifact.archive_name(product, version, architecture)
    listed = artifact.expected_checksum(text, without_password(url), archive)
    trust, unencrypted = params["trust_mirror"], params["allow_unencrypted_mirror"]
    return vouched_checksum(product, version, architecture, url, listed, params["checksums"], trust, unencrypted)


def go_architecture(params: dict[str, Any]) -> str:
    """Return the architecture of the host in the names of releases."""
    return artifact.go_architecture(params["architecture"] or platform.machine())


def install(module: AnsibleModule, target: artifact.Target, archive: str, state: artifact.State, result: dict[str, Any]) -> None:
    """Change what `state` found wrong."""
    p = module.params
    artifact.make_directory(target.home)
    with artifact.locked(target.home):
        previous = target.linked_version()
        if not state.usable:
            with artifact.incoming(target) as directory:
                path, checksum, shown = p["archive"], p["checksum"], archive
                if not path:
                    base = f"{p['mirror'].rstrip('/')}/{quote(artifact.release_directory(target.product, target.version))}"
                    path, shown = os.path.join(directory, archive), without_password(f"{base}/{archive}")
                    checksum = checksum_from_url(p, base, go_architecture(p))
                    download(f"{base}/{quote(archive)}", p["timeout"], path)
                artifact.put_in_place(path, checksum, target, directory, p["version_arguments"], shown)
        artifact.correct_modes(state.drifted)
        if not state.linked:
            if state.usable:
                artifact.check_binary(target.binary, target, p["version_arguments"], target.directory)
            result["kept"] = artifact.set_link(target) or ""
            if previous != target.version:
                result["removed"] = artifact.prune(target, previous)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Compare and, outside of check mode, change."""
    p = module.params
    artifact.check_names(p["product"], p["version"])
    target = artifact.Target(p["product"], p["version"], p["root"], p["link_dir"])
    archive = artifact.archive_name(target.product, target.version, go_architecture(p))
    state = artifact.inspect(target)
    previous = target.linked_version()
    result: dict[str, Any] = {
        "changed": not state.complete,
        "path": target.binary,
        "link": target.link,
        "version": target.version,
        "previous_version": previous or "",
        "reason": state.reason,
        "removed": [],
        "kept": "",
    }
    if state.complete:
        return result
    if state.usable:
        result["reason"] = f"{target.link} does not point to {target.binary}" if not state.linked else f"owner or mode of {', '.join(state.drifted)}"
    remote = p["mirror"].startswith(("http://", "https://"))
    if not state.usable and not remote and not p["archive"]:
        # The action plugin pushes the archive and calls again.
        return dict(result, needs_archive=archive)
    before = f"{target.product} {previous}" if previous else f"no {target.product}"
    if previous == target.version:
        before += f" ({result['reason']})"
    result["diff"] = {"before_header": target.link, "after_header": target.link, "before": before + "\n", "after": f"{target.product} {target.version}\n"}
    if module.check_mode:
        if remote and not state.usable:
            base = f"{p['mirror'].rstrip('/')}/{quote(artifact.release_directory(target.product, target.version))}"
            checksum_from_url(p, base, go_architecture(p))
        return result
    install(module, target, archive, state, result)
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "product": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "mirror": {"type": "str", "required": True},
            "root": {"type": "path", "default": "/opt"},
            "link_dir": {"type": "path", "default": "/usr/local/bin"},
            "architecture": {"type": "str"},
            "version_arguments": {"type": "list", "elements": "str", "default": ["-version"]},
            "timeout": {"type": "int", "default": 30},
            "checksums": {"type": "dict", "default": {}},
            "trust_mirror": {"type": "bool", "default": False},
            "allow_unencrypted_mirror": {"type": "bool", "default": False},
            "archive": {"type": "path"},
            "checksum": {"type": "str"},
        },
        required_together=[("archive", "checksum")],
        supports_check_mode=True,
    )
    target = artifact.Target(module.params["product"], module.params["version"], module.params["root"], module.params["link_dir"])
    try:
        with artifact.explained(target):
            result = run(module)
    except artifact.ArtifactError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
