# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's configuration file: one JSON object, every key checked."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from registrator.model import Settings

DEFAULT_PATH = "/etc/registrator/config.json"

_HOSTNAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$")


class ConfigError(Exception):
    """The configuration cannot be used; the message names file, key and remedy."""


@dataclass(frozen=True)
class Config:
    """All settings, with the values that hold when a key is left out."""

    address: str
    hostname: str
    consul_url: str = "http://127.0.0.1:8500"
    consul_token_file: str = ""
    consul_token_directory: str = ""
    consul_ca_file: str = ""
    docker_socket: str = "/var/run/docker.sock"
    docker_pid_file: str = "/run/docker.pid"
    resync_seconds: float = 30.0
    drain_seconds: float = 60.0
    metrics_port: int = 8099
    internal: bool = False
    explicit: bool = False
    docker_health: bool = True
    allow_scripts: bool = False
    environment_meta: bool = True
    adopt: bool = False
    tags: tuple[str, ...] = ()
    reserved_names: tuple[str, ...] = ("consul",)
    protected_names: tuple[str, ...] = ()
    known_meta: tuple[tuple[str, tuple[str, ...]], ...] = ()
    state_directory: str = "/run/registrator"
    data_directory: str = "/var/lib/registrator"

    def settings(self) -> Settings:
        """The part that the registration convention needs."""
        return Settings(
            hostname=self.hostname,
            address=self.address,
            internal=self.internal,
            explicit=self.explicit,
            docker_health=self.docker_health,
            allow_scripts=self.allow_scripts,
            environment_meta=self.environment_meta,
            tags=self.tags,
            reserved_names=self.reserved_names,
            protected_names=self.protected_names,
            known_meta=self.known_meta,
        )


def _check_type(where: str, key: str, value: Any, default: Any) -> Any:
    if isinstance(default, bool):
        good = isinstance(value, bool)
    elif isinstance(default, (int, float)):
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    elif isinstance(default, tuple):
        good = isinstance(value, list) and all(isinstance(item, str) for item in value)
        value = tuple(value) if good else value
    else:
        good = isinstance(value, str)
    if not good:
        raise ConfigError(f"{where}: {key} has the value {value!r}, which is not of the right type")
    return value


def _known_meta(where: str, value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the pairs of an object of lists of tags. Raises: ConfigError: it is none."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: known_meta has the value {value!r}; it must be an object of lists of tags")
    return tuple((key, _check_type(where, f"known_meta.{key}", tags, ())) for key, tags in value.items())


def parse(text: str, where: str) -> Config:
    """A checked configuration from the text of its file."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must hold one JSON object")
    known = {item.name: item for item in fields(Config)}
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            raise ConfigError("{}: {} is not a known setting; known are {}".format(where, key, ", ".join(sorted(known))))
        if key == "known_meta":
            values[key] = _known_meta(where, value)
            continue
        default = "" if key in ("address", "hostname") else known[key].default
        values[key] = _check_type(where, key, value, default)
    for key in ("address", "hostname"):
        if not values.get(key):
            raise ConfigError(f"{where}: {key} is missing")
    try:
        if ipaddress.ip_address(values["address"]).is_unspecified:
            raise ValueError("it is the wildcard address")
    except ValueError as error:
        raise ConfigError("{}: address {!r} is not an address that others can use: {}".format(where, values["address"], error)) from error
    if not _HOSTNAME.match(values["hostname"]):
        raise ConfigError("{}: hostname {!r} may hold letters, digits, '.', '-' and '_' only".format(where, values["hostname"]))
    config = Config(**values)
    if not config.consul_url.startswith(("http://", "https://", "unix:///")):
        raise ConfigError(f"{where}: consul_url {config.consul_url!r} must begin with http://, https:// or unix:///")
    for tag in config.tags:
        if "{{" in tag:
            raise ConfigError(f"{where}: tags has {tag!r}: templates are not supported; write the tag itself")
    if config.resync_seconds < 1:
        raise ConfigError(f"{where}: resync_seconds must be at least 1")
    if not 0 <= config.metrics_port < 65536:
        raise ConfigError(f"{where}: metrics_port must be from 0 (off) to 65535")
    return config


def load(path: str) -> Config:
    """A checked configuration from its file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return parse(text, path)
