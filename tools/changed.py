#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the test stages that a change needs, one per line.

Without arguments, the change is everything that differs from the branch main, whether committed or not. `make changed`
runs these stages.
"""

from __future__ import annotations

import argparse
import fnmatch
import subprocess
import sys
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import stages

QUICK = ("lint", "unit")
#: What a change of a role needs at once; CI runs the whole of ``default``.
NODES = ("platform", "rejected-input", "artifact")

#: Pattern of paths -> stages. Every pattern that matches a path counts.
RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("*", QUICK),
    ("README.md", ("rejected-input",)),
    ("roles/registrator/files/*", ("render", "registration")),
    ("roles/registrator/*", ("registration",)),
    ("roles/nginx/files/*", ("render", "fuzz", "platform", "selected-faults")),
    ("roles/consul_backup/files/*", ("render", "day2")),
    ("roles/*/tasks/*", NODES),
    ("roles/*/handlers/*", NODES),
    ("roles/*/templates/*", NODES),
    ("roles/*/defaults/*", ("playbooks", *NODES)),
    ("roles/*/vars/*", ("playbooks", *NODES)),
    ("roles/*/meta/argument_specs.yml", ("playbooks", "platform")),
    ("roles/consul_acl/*", ("render", "secure")),
    ("roles/consul_tls/*", ("render", "secure")),
    ("roles/consul_backup/*", ("day2",)),
    ("roles/docker_daemon_dns/*", ("used-hosts",)),
    ("roles/resolvconf_dns/*", ("used-hosts",)),
    ("roles/package_mirror/*", ("bundle-site",)),
    ("plugins/*", ("playbooks", "platform")),
    ("plugins/*consul*", ("render", "secure")),
    ("plugins/*tokens*", ("render", "secure")),
    ("plugins/*secret*", ("secure",)),
    ("plugins/*edge*", ("render", "fuzz")),
    ("plugins/*upstreams*", ("render", "fuzz")),
    ("plugins/*datacenters*", ("render", "wan")),
    ("plugins/*resolve*", ("artifact", "used-hosts")),
    ("plugins/*docker*", ("used-hosts",)),
    ("plugins/*preflight*", ("rejected-input", "used-hosts")),
    ("playbooks/*", ("playbooks", "platform")),
    ("playbooks/rotate_*", ("secure",)),
    ("playbooks/renew_*", ("secure",)),
    ("playbooks/secure_cluster.yml", ("secure",)),
    ("playbooks/evict_node.yml", ("secure",)),
    ("playbooks/vars/*", NODES),
    ("playbooks/upgrade.yml", ("day2",)),
    ("playbooks/restore.yml", ("day2",)),
    ("playbooks/backup.yml", ("day2",)),
    ("playbooks/drain.yml", ("day2",)),
    ("playbooks/undrain.yml", ("day2",)),
    ("playbooks/recover_quorum.yml", ("day2",)),
    ("playbooks/uninstall.yml", ("day2", "used-hosts")),
    ("playbooks/remove_node.yml", ("day2", "grow")),
    ("playbooks/remove_package_mirror.yml", ("bundle-site",)),
    ("inventories/*", ("playbooks", "rejected-input")),
    ("site.yml", ("playbooks", *NODES)),
    ("services/*", ("platform",)),
    ("galaxy.yml", ("install",)),
    ("meta/*", ("install",)),
    ("requirements*", ("install", "rejected-input")),
    ("tests/install/*", ("install",)),
    ("tests/playbooks/*", ("playbooks",)),
    ("tests/render/*", ("render", "fuzz")),
    ("tests/apply/*", ("render", "fuzz")),
    ("tests/agent/*", ("render",)),
    ("tests/fuzz/*", ("fuzz",)),
    (".config/molecule/*", NODES),
    ("molecule/shared/*", NODES),
    ("molecule/shared/*fault*", ("selected-faults", "faults")),
    ("molecule/default/*.yml", ("default",)),
    ("molecule/default/tests/conftest.py", ("default",)),
    *((f"molecule/default/tests/{file}*", (part,)) for part, files in stages.PARTS.items() for file in files),
    ("molecule/shared/registration.py", ("registration",)),
    ("molecule/rejected_input/*", ("rejected-input",)),
    ("molecule/artifact/*", ("artifact", "trixie", "bullseye")),
    ("molecule/used_hosts/*", ("used-hosts",)),
    ("molecule/bundle/*", ("bundle-site",)),
    *((f"molecule/{name}/*", (name,)) for name in ("day2", "secure", "grow", "wan")),
    ("molecule/faults/*.py", ("faults",)),
    ("molecule/faults/*.yml", ("faults",)),
    ("tools/setup/*", ("install", *NODES)),
    ("tools/bundle/*", ("bundle-site",)),
    ("tools/test/*", ("playbooks", "platform")),
    ("tools/stages.py", ("platform",)),
)


def stages_for(paths: t.Iterable[str]) -> list[str]:
    """Return the test stages that changes of these paths need, in the order in which they run."""
    wanted: set[str] = set()
    for path in paths:
        for pattern, names in RULES:
            if fnmatch.fnmatch(path, pattern):
                wanted.update(names)
    return [name for name in stages.STAGES if name in wanted]


def changed_paths(base: str) -> list[str]:
    """Return the paths that differ from where this branch left the base, untracked files included."""

    def git(*words: str) -> list[str]:
        done = subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    merge_base = git("merge-base", base, "HEAD")[0]
    return sorted({*git("diff", "--name-only", merge_base), *git("ls-files", "--others", "--exclude-standard")})


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=t.cast(str, __doc__).splitlines()[0])
    parser.add_argument("paths", nargs="*", help="changed paths, from the top of the project (default: what git finds)")
    parser.add_argument("--base", default="main", help="branch to compare with (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        paths = arguments.paths or changed_paths(arguments.base)
    except subprocess.CalledProcessError as error:
        print(f"error: git cannot compare with {arguments.base}: {error.stderr.strip()}; choose another --base", file=sys.stderr)
        return 2
    print("\n".join(stages_for(paths)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
