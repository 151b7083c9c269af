# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a site may get its first secrets, and who else gets them. Private to the collection, pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Stages at which an agent has keys, certificates and tokens of a cluster.
SECURED = ("offer", "use", "require")


def _words(items: Sequence[str]) -> str:
    return " and ".join(", ".join(items).rsplit(", ", 1))


def is_new_cluster(stages: Mapping[str, str], servers: Sequence[str]) -> bool:
    """Return whether no server has ACLs yet, so that the first caller could make the management token. A server that is left out may have them."""
    return bool(servers) and all(stages.get(server, SECURED[0]) not in SECURED for server in servers)


def secrets_fault(directory: str, stages: Mapping[str, str], missing: Sequence[str], begun: bool, left_out: Sequence[str]) -> str:
    """Return why the secrets do not fit the agents, with what to do; empty when they do.

    Args:
        directory: where the secrets are.
        stages: how far each agent of this run is on its way to a secure cluster.
        missing: the files without which new ones would be given to a running cluster.
        begun: whether there are secrets at all.
        left_out: hosts with an agent that are not part of this run.
    """
    secured = [host for host, stage in stages.items() if stage in SECURED]
    if secured and missing:
        what = f"has no {_words(missing)}" if begun else "has no secrets"
        belong = "belong" if len(secured) > 1 else "belongs"
        return (
            f"{_words(secured)} {belong} to a secure cluster, and {directory} on this machine {what}; bring the directory from the"
            " machine or the backup that has it (platform_secrets_directory). If it is lost: -e consul_acl_reset=true, as in"
            ' "When something was lost" of docs/secure_operations.md. Nothing was changed'
        )
    if not begun and left_out:
        return (
            f"{directory} on this machine has no secrets yet, and {_words(left_out)} may have those of a running cluster; run site.yml once"
            " for all hosts, without --limit, or bring the directory from the machine that has it. Nothing was changed"
        )
    return ""


def git_warning(directory: str, readable: Sequence[str]) -> str:
    """Return a warning of secrets that everyone who gets the git repository can read."""
    some = f"{_words(readable[:3])} and {len(readable) - 3} more" if len(readable) > 3 else _words(readable)
    return (
        f"{directory}: git has or would take {some}, which are not encrypted: add '*' to {directory}/.gitignore, run"
        f" 'git rm -r --cached {directory}', and rotate what was pushed (rotate_tokens.yml, rotate_gossip_key.yml,"
        " renew_authority.yml). Or configure a vault password; the next run then encrypts them"
    )
