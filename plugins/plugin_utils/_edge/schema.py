# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of an edge description against its options. Private to the collection, pure."""

from __future__ import annotations

import difflib
import typing as t

from .option import Option
from .options import SCHEMA
from .value_checks import DOMAIN_LENGTH, NotAllowed, checked_value

# The tag that the original registrator adds to an instance whose port is a UDP port.
UDP_TAG = "udp"


class EdgeError(ValueError):
    """The edge description is wrong. The message holds every error of it, not only the first."""

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors
        super().__init__("; ".join(errors))


def _shown(value: t.Any) -> str:
    text = repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def _check_list(option: Option, key: str, value: t.Any, context: dict[str, t.Any], errors: list[str]) -> tuple[t.Any, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple)):
        errors.append(f"{key}: {_shown(value)} is not allowed, it must be a list")
        return ()
    checked: list[t.Any] = []
    for number, element in enumerate(value):
        if option.elements == "dict":
            if isinstance(element, t.Mapping):
                checked.append(_check_dict(option.suboptions, f"{key}[{number}].", element, errors, context))
            else:
                errors.append(f"{key}[{number}]: {_shown(element)} is not allowed, it must be a dictionary")
            continue
        try:
            item = checked_value(option, option.elements, element, context)
        except NotAllowed as bad:
            errors.append(f"{key}[{number}]: {_shown(element)} is not allowed, it must be {bad}")
            continue
        if item not in checked:
            checked.append(item)
    return tuple(checked)


def _check_dict(schema: tuple[Option, ...], prefix: str, given: t.Any, errors: list[str], context: dict[str, t.Any]) -> dict[str, t.Any]:
    known = {option.name: option for option in schema}
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            errors.append(f"{prefix}{_shown(key)} is not a known key, the nearest known key is {near[0]}")
    checked: dict[str, t.Any] = {}
    for option in schema:
        key = prefix + option.name
        if option.kind == "dict":
            value = given.get(option.name, {})
            if not isinstance(value, t.Mapping):
                errors.append(f"{key}: {_shown(value)} is not allowed, it must be a dictionary")
                value = {}
            checked[option.name] = _check_dict(option.suboptions, f"{key}.", value, errors, {**context, **checked})
        elif option.name not in given:
            if option.required:
                errors.append(f"{key} is required")
            else:
                checked[option.name] = option.default
        elif option.kind == "list":
            checked[option.name] = _check_list(option, key, given[option.name], {**context, **checked}, errors)
        else:
            try:
                checked[option.name] = checked_value(option, option.kind, given[option.name], {**context, **checked})
            except NotAllowed as bad:
                errors.append(f"{key}: {_shown(given[option.name])} is not allowed, it must be {bad}")
    return checked


def _check_certificates(checked: dict[str, t.Any]) -> list[str]:
    """Two certificates can't have the same name or host name; fills in the host name that an empty list stands for."""
    errors: list[str] = []
    names: dict[str, int] = {}
    hosts: dict[str, int] = {}
    for number, certificate in enumerate(checked["tls"]["certificates"]):
        certificate["host_names"] = certificate["host_names"] or (f"*.{checked['domain']}",)
        for key, values, seen in (("name", (certificate["name"],), names), ("host_names", certificate["host_names"], hosts)):
            for value in values:
                first = seen.setdefault(value, number)
                if first != number:
                    errors.append(f"tls.certificates[{number}].{key}: {_shown(value)} is not allowed, it must differ from tls.certificates[{first}].{key}")
    return errors


def _check_cleared(checked: dict[str, t.Any]) -> list[str]:
    """Return an error for each header that is listed in two spellings, or as cleared and as passed."""
    errors: list[str] = []
    seen: dict[str, int] = {}
    for number, header in enumerate(checked["cleared_headers"]):
        first = seen.setdefault(header.lower(), number)
        if first != number:
            errors.append(f"cleared_headers[{number}]: {_shown(header)} is not allowed, cleared_headers[{first}] is the same header")
        if header.lower() in {name.lower() for name in checked["passed_headers"]}:
            errors.append(f"cleared_headers[{number}]: {_shown(header)} is not allowed, passed_headers has the same header")
    return errors


def _check_remote(checked: dict[str, t.Any]) -> list[str]:
    """A service of a data centre can't be there twice."""
    errors: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    for number, remote in enumerate(checked["remote_services"]):
        first = seen.setdefault((remote["name"], remote["datacenter"]), number)
        if first != number:
            errors.append(f"remote_services[{number}]: {_shown(remote['name'])} is not allowed, remote_services[{first}] is the same service there")
    return errors


def remote_datacenters(edge: t.Any) -> list[str]:
    """The data centres that a description, checked or not, takes services from."""
    services = edge.get("remote_services") if isinstance(edge, t.Mapping) else None
    named = [service.get("datacenter") for service in services if isinstance(service, t.Mapping)] if isinstance(services, (list, tuple)) else []
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def _check_internal(checked: dict[str, t.Any]) -> list[str]:
    """The internal side must be apart from the public one; fills in its domain."""
    internal, errors = checked["internal"], []
    if internal["domain"] is None:
        internal["domain"] = f"internal.{checked['domain']}"
    if not internal["listen_addresses"]:
        return [] if checked["public"] else ["public: False is not allowed, it must be true where internal.listen_addresses is empty"]
    if len(internal["domain"]) > DOMAIN_LENGTH:
        errors.append(f"internal.domain: {_shown(internal['domain'])} is not allowed, it must have at most {DOMAIN_LENGTH} characters")
    if internal["domain"] == checked["domain"]:
        errors.append(f"internal.domain: {_shown(internal['domain'])} is not allowed, it must differ from domain")
    for address in sorted({*internal["listen_addresses"]} & {*checked["listen_addresses"]}):
        errors.append(f"internal.listen_addresses: {_shown(address)} is not allowed, it must differ from those of listen_addresses")
    if internal["http_port"] == checked["tls_port"]:
        errors.append(f"internal.http_port: {internal['http_port']} is not allowed, it must differ from tls_port")
    return errors


def check_edge(edge: t.Any) -> dict[str, t.Any]:
    """Return the edge description with every default filled in.

    Raises:
        EdgeError: it is wrong; lists all errors.
    """
    if not isinstance(edge, t.Mapping):
        raise EdgeError([f"{_shown(edge)} is not allowed, the edge description must be a dictionary"])
    errors: list[str] = []
    checked = _check_dict(SCHEMA, "", edge, errors, {})
    if not errors:
        if checked["http_port"] == checked["tls_port"]:
            errors.append(f"tls_port: {checked['tls_port']} is not allowed, it must differ from http_port")
        if checked["tcp_tag"] == checked["tls_tag"]:
            errors.append(f"tls_tag: {_shown(checked['tls_tag'])} is not allowed, it must differ from tcp_tag")
        for key, tag in (*((key, checked[key]) for key in ("http_tag", "tcp_tag", "tls_tag")),
                         *((f"internal.{key}", checked["internal"][key]) for key in ("http_tag", "tcp_tag"))):  # fmt: skip
            if tag == UDP_TAG:
                errors.append(f"{key}: {_shown(tag)} is not allowed, this tag marks instances that are reached over UDP")
        errors += [*_check_certificates(checked), *_check_internal(checked), *_check_remote(checked), *_check_cleared(checked)]
    if errors:
        raise EdgeError(errors)
    return checked
