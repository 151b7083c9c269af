# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name the differences between the engine and the originals. Each is a row of the role's README."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Mapping

from originals import Difference, Record

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,126}[A-Za-z0-9_])?")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,254}")
_BY_PROTOCOL_OR_RANGE = re.compile(r"SERVICE_[0-9]+(_(TCP|UDP)|-[0-9]+)_.*")
_ORIGINS = ("meta.compose_project", "meta.compose_service", "meta.swarm_service", "meta.swarm_stack")


class Seen:
    """A difference with the case on which it was seen."""

    def __init__(self, record: Record, side: str, mode: str, found: Difference) -> None:
        # The letter says what a case is about: names, tags, meta data, checks, ids, ports, states, ignore.
        self.about = record.name.rpartition("-")[2][0]
        self.options = record.options
        self.then = record.then
        self.labels: dict[str, str] = record.document["Config"]["Labels"] or {}
        self.side, self.mode = side, mode
        self.service, self.field, self.ours, self.theirs = found

    def added(self) -> bool:
        """Return whether only the engine registers the service."""
        return self.field == "registered" and self.theirs is None

    def left_out(self) -> bool:
        """Return whether only the original registers the service."""
        return self.field == "registered" and self.ours is None

    def base_name(self) -> str:
        """Return the original's name without the port."""
        name = self.theirs if self.field == "name" else self.theirs.name
        return re.sub("-(80|443)$", "", name)

    def lost_check(self) -> Mapping[str, t.Any]:
        """Return a check that only the original makes; an empty one when there is none."""
        return self.theirs if self.field == "check" and self.ours is None else {}

    def new_check(self, kind: str) -> bool:
        """Return whether only the engine makes this kind of check of its own."""
        return self.field == "check" and self.theirs is None and self.ours["CheckID"].endswith(f":{kind}")

    def meta(self, *names: str) -> bool:
        """Return whether the difference is in one of these pairs, and the engine leaves it out."""
        return self.ours is None and any(self.field == f"meta.{name}" for name in names)

    def labelled(self, *names: str) -> bool:
        """Return whether the container has one of these labels."""
        return any(name in self.labels for name in names)

    def valid_id(self) -> bool:
        """Return whether the id of the label has allowed characters only."""
        return _ID.fullmatch(self.labels.get("SERVICE_ID", "x")) is not None


def _is_name_with_characters(seen: Seen) -> bool:
    return seen.left_out() and bool(seen.base_name().strip()) and not _NAME.fullmatch(seen.theirs.name)


def _is_blank_name(seen: Seen) -> bool:
    if "SERVICE_80_NAME" in seen.labels and seen.field == "name":
        return False
    if seen.field == "name" and seen.about == "n":
        return seen.base_name() != seen.base_name().strip()
    return seen.left_out() and seen.mode == "explicit" and not seen.base_name().strip()


def _is_by_protocol_or_range(seen: Seen) -> bool:
    if seen.side != "gliderlabs" or not any(_BY_PROTOCOL_OR_RANGE.fullmatch(label) for label in seen.labels):
        return False
    return seen.field == "name" or seen.added() or seen.field.endswith("_name")


def _is_cleaned(seen: Seen) -> bool:
    if seen.field != "tags" or sorted(seen.ours) == sorted(seen.theirs) or seen.about == "i":
        return False
    return set(seen.ours) == {tag.strip() for tag in seen.theirs} - {""}


def _is_control_character(seen: Seen) -> bool:
    if seen.field == "tags":
        return any("\n" in tag for tag in seen.theirs)
    return seen.field.startswith("meta.") and seen.ours is None and "\n" in seen.theirs


def _is_script(seen: Seen) -> bool:
    scripted = seen.labelled("SERVICE_CHECK_SCRIPT", "SERVICE_CHECK_CMD")
    return scripted and (seen.field in ("check.ScriptArgs", "check.Timeout") or seen.added())


def _is_general_id(seen: Seen) -> bool:
    general = seen.about == "i" and seen.valid_id() and not seen.labelled("SERVICE_53_ID")
    return general and (seen.added() or seen.left_out())


def _is_several_bindings(seen: Seen) -> bool:
    return seen.about == "w" and seen.options.count(":80") > 1 and (seen.field in ("port", "address") or seen.added())


# fmt: off
#: The name of each difference, and what it is recognized by. A difference has one name only.
RULES: dict[str, Callable[[Seen], bool]] = {
    "mark": lambda seen: seen.field == "meta.registrator-managed" and seen.theirs is None,
    "udp-meta": lambda seen: seen.field == "meta.registrator-protocol" and seen.theirs is None,
    "image-version": lambda seen: seen.field == "meta.version" and seen.theirs is None,
    "compose-and-swarm": lambda seen: seen.field in _ORIGINS and seen.theirs is None,
    "name-characters": _is_name_with_characters,
    "name-blank": _is_blank_name,
    "name-empty-for-port": lambda seen: (
        seen.field == "name" and "SERVICE_80_NAME" in seen.labels and not seen.labels["SERVICE_80_NAME"].strip()
    ),
    "tags-order": lambda seen: (
        seen.field == "tags" and sorted(seen.ours) == sorted(seen.theirs) and not _is_control_character(seen)
    ),
    "tags-cleaned": _is_cleaned,
    "tags-template": lambda seen: (
        seen.field == "tags" and "{{.Config.Hostname}}" in seen.ours and "{{.Config.Hostname}}" not in seen.theirs
    ),
    "control-characters": _is_control_character,
    "meta-lost": lambda seen: seen.added() and seen.about == "m" and not _is_by_protocol_or_range(seen),
    "meta-number-key": lambda seen: seen.field == "meta.80" and seen.side == "fayrus",
    "secrets": lambda seen: seen.meta("db_password"),
    "weight": lambda seen: seen.field in ("weight", "meta.edge_weight") or seen.meta("weight"),
    "warmup": lambda seen: seen.new_check("warmup") or seen.meta("warmup"),
    "tag-override": lambda seen: seen.meta("enable_tag_override") or seen.field == "override",
    "protocol-and-range": _is_by_protocol_or_range,
    "port-by-label": lambda seen: (
        seen.labelled("SERVICE_8080_NAME") and seen.mode == "internal" and (seen.added() or seen.field == "name")
    ),
    "ignore-false": lambda seen: seen.added() and seen.about == "g",
    "ignore-meta": lambda seen: seen.meta("ignore"),
    "check-meta": lambda seen: seen.field.startswith("meta.check_") and seen.ours is None,
    "check-name": lambda seen: seen.field == "check.Name",
    "check-redirects": lambda seen: seen.field == "check.DisableRedirects" and seen.theirs is None,
    "check-path": lambda seen: seen.field == "check.HTTP",
    "check-method": lambda seen: seen.field == "check.Method",
    "check-header": lambda seen: seen.field == "check.Header" and seen.theirs is None,
    "check-refused": lambda seen: seen.new_check("refused") or "HTTP" in seen.lost_check(),
    "check-false": lambda seen: (
        ("TCP" in seen.lost_check() and seen.labels["SERVICE_CHECK_TCP"] == "false")
        or (seen.field == "check.GRPCUseTLS" and seen.ours is None)
    ),
    "check-udp": lambda seen: seen.lost_check().get("CheckID", "").endswith(":udp"),
    "check-lost": lambda seen: seen.added() and seen.about == "c" and not _is_script(seen),
    "check-script": _is_script,
    "check-skip-verify": lambda seen: seen.field == "check.TLSSkipVerify" and seen.side == "gliderlabs",
    "grpc-service": lambda seen: seen.field == "check.GRPC",
    "healthcheck": lambda seen: seen.new_check("docker"),
    "id-characters": lambda seen: seen.about == "i" and not seen.valid_id() and (seen.added() or seen.left_out()),
    "id-general": _is_general_id,
    "id-udp": lambda seen: seen.labelled("SERVICE_53_ID") and (
        seen.added() or seen.field == "port" or (seen.field == "tags" and len(seen.ours) != len(seen.theirs))
    ),
    "loopback-only": lambda seen: seen.left_out() and ("127." in seen.options or "[::1]" in seen.options),
    "other-family-only": lambda seen: seen.left_out() and "[::]:" in seen.options,
    "one-address": lambda seen: seen.field == "address" and "172.17.0.1::" in seen.options,
    "several-bindings": _is_several_bindings,
    "host-network-internal": lambda seen: (
        seen.field == "address" and seen.mode == "internal" and "--net host" in seen.options
    ),
    "network-none": lambda seen: seen.left_out() and "--net none" in seen.options,
    "network-of-another": lambda seen: "--net container:" in seen.options and seen.field in ("address", "port"),
    "several-networks": lambda seen: (
        seen.field == "address" and seen.mode == "internal" and any("network connect" in order for order in seen.then)
    ),
    "paused": lambda seen: seen.left_out() and "pause" in seen.then,
}
# fmt: on
