# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of the program."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from .errors import ApplyError
from .nginxconf import Places, normal_ip

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class Config(NamedTuple):
    """The content of ``/etc/nginx-edge/apply.json``. It has every path: tests run next to a real installation."""

    state_dir: str = "/var/lib/nginx-edge"
    base_dir: str = "/etc/nginx-edge"
    socket_dir: str = "/run/nginx-edge/tls"
    nginx_conf: str = "/etc/nginx/nginx.conf"
    nginx_binary: str = "/usr/sbin/nginx"
    pid_file: str = "/run/nginx.pid"
    controller: str = "systemd"
    unit: str = "nginx.service"
    status_port: int = 8098
    status_address: str = ""
    status_host_names: tuple[str, ...] = ()
    timeout: float = 10
    history: int = 5
    shrink_limit_percent: int = 50
    shrink_min_services: int = 5
    shrink_window: float = 300
    max_staged_bytes: int = 32 * 1024 * 1024
    retry: float = 30
    staged_loopback: bool = False
    # Exists and is empty from the start of the host on; see boot.py.
    boot_mark: str = "/run/nginx-edge/boot"
    boot_wait: float = 60
    # The agent of a node tells a new leader what the node runs within 15 s, which is how often it tries.
    boot_settle: float = 15
    # Locked while nothing newer can be applied; see pace.py.
    busy: str = "/run/nginx-edge/apply.busy"
    # The interval at which the refusals of the limits are counted.
    watch: float = 10
    testing: bool = False

    @property
    def live(self) -> str:
        """Return the link that nginx reads through."""
        return f"{self.state_dir}/live"

    @property
    def places(self) -> Places:
        """Return what a staged file may refer to."""
        return Places(self.socket_dir, f"{self.base_dir}/tls", self.staged_loopback)


def load_config(path: str) -> Config:
    """Read the configuration; an unknown key or a value of the wrong type is an error that names it."""
    try:
        with open(path, encoding="utf-8") as handle:
            values = json.load(handle)
    except (OSError, ValueError) as error:
        raise ApplyError("platform", f"{path} can't be read: {error}; run the site playbook again") from error
    known = Config._field_defaults
    for key, value in values.items():
        if key not in known:
            raise ApplyError("platform", f"{path}: unknown key {key!r}")
        # JSON has lists where a configuration has tuples.
        wanted = list if isinstance(known[key], tuple) else type(known[key])
        number = isinstance(known[key], (int, float)) and not isinstance(known[key], bool)
        if not isinstance(value, (int, float) if number else wanted):
            raise ApplyError("platform", f"{path}: {key} is {value!r}, not a {wanted.__name__}")
    config = Config(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    if config.status_address and normal_ip(config.status_address) is None:
        reason = f"status_address is {config.status_address!r}, not an IPv4 or IPv6 address (nginx_status_address)"
        raise ApplyError("platform", f"{path}: {reason}")
    for name in config.status_host_names:
        if not isinstance(name, str) or not _HOST_NAME.fullmatch(name):
            reason = f"status_host_names has {name!r}, not a host name (nginx_status_host_names)"
            raise ApplyError("platform", f"{path}: {reason}")
    return config
