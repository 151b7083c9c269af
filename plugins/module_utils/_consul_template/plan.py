# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of one consul-template process, made from a list of templates.

Private to the collection. Pure: descriptions come in, file contents go out, so that a unit test reaches every rule.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import typing as t

NAME = re.compile(r"[a-z0-9_-]+")
PERMS = re.compile(r"0[0-7]{3}")

# The unit runs with a private /tmp and without homes: a file rendered there would be seen by nobody else.
HIDDEN = ("/tmp", "/var/tmp", "/home", "/root", "/run/user", "/dev")  # noqa: S108

# consul-template kills a command after its own limit and then stops for good, so that limit must never be the first one to be reached.
KILL_AFTER_SECONDS = 5
MARGIN_SECONDS = 15

COMMAND = """\
#!/bin/sh
# Managed by Ansible (trinode.platform.consul_template).
# Whatever happens, the exit status is 0: consul-template ends for good when a command fails or takes too long.
timeout --kill-after={kill_after} {timeout} /bin/sh -c {command} ||
  echo "<3>the command of template {name} failed with status $? (124: it took longer than {timeout} s); the rendered file stays as it is" >&2
exit 0
"""


class ConfigError(ValueError):
    """A description that cannot be turned into files. The message is one sentence with the remedy."""


class File(t.NamedTuple):
    """One wanted file."""

    path: str
    text: str
    executable: bool


class Plan(t.NamedTuple):
    """Everything that has to be on the disk for one process."""

    #: The main configuration file; consul-template is started with it.
    config: str
    #: In the order in which they are written: what the configuration names comes before the configuration.
    files: tuple[File, ...]
    destinations: tuple[str, ...]
    #: Scripts to run once after a start: consul-template does not repeat a command for a file that is already equal.
    commands: tuple[str, ...]


def check(templates: t.Sequence[t.Mapping[str, t.Any]]) -> None:
    """Refuse what the argument specification cannot refuse."""
    names: set[str] = set()
    destinations: dict[str, str] = {}
    for template in templates:
        name, destination = template["name"], template["destination"]
        if not NAME.fullmatch(name):
            raise ConfigError(f"the template name {name!r} is not usable as a file name: use lower-case letters, digits, '_' and '-'")
        if name in names:
            raise ConfigError(f"the template name {name!r} is used twice: give each entry its own name")
        names.add(name)
        if not os.path.isabs(destination) or os.path.normpath(destination) != destination:
            raise ConfigError(f"template {name!r}: the destination {destination!r} is not a plain absolute path")
        if any(destination.startswith(f"{hidden}/") for hidden in HIDDEN):
            raise ConfigError(
                f"template {name!r}: {destination!r} is out of reach of the service, which has its own temporary directories and sees no homes: "
                "choose a directory below /etc, /run or /var/lib"
            )
        if destination in destinations:
            raise ConfigError(f"templates {destinations[destination]!r} and {name!r} both write {destination}: give each its own destination")
        destinations[destination] = name
        if not PERMS.fullmatch(template["perms"]):
            raise ConfigError(f"template {name!r}: perms {template['perms']!r} is not a file mode: use four octal digits such as '0644'")


def plan(
    directory: str,
    settings: t.Mapping[str, t.Any],
    templates: t.Sequence[t.Mapping[str, t.Any]],
    command_timeout: int,
    root: str = "",
) -> Plan:
    """All files below ``directory``. ``root`` moves them elsewhere, links among them included, so that a candidate can be judged first."""
    base = root + directory
    sources: list[File] = []
    scripts: dict[str, File] = {}
    entries: list[dict[str, t.Any]] = []
    for template in templates:
        source = File(f"{base}/templates/{template['name']}.ctmpl", template["contents"], False)
        sources.append(source)
        entry: dict[str, t.Any] = {
            "source": source.path,
            "destination": template["destination"],
            "perms": template["perms"],
            "create_dest_dirs": False,
            # A candidate must be refused; a running process must go on and try again with the next change.
            "error_fatal": bool(root),
        }
        command = (template.get("command") or "").strip()
        if command:
            # One script for each different command: consul-template runs equal commands of one pass only once.
            script = scripts.setdefault(
                command,
                File(
                    f"{base}/commands/{template['name']}",
                    COMMAND.format(kill_after=KILL_AFTER_SECONDS, timeout=command_timeout, command=shlex.quote(command), name=template["name"]),
                    True,
                ),
            )
            entry["exec"] = {"command": [script.path], "timeout": f"{command_timeout + MARGIN_SECONDS}s"}
        entries.append(entry)
    config = File(f"{base}/config.json", json.dumps({**settings, "template": entries}, indent=2, sort_keys=True) + "\n", False)
    return Plan(
        config=config.path,
        files=(*sources, *scripts.values(), config),
        destinations=tuple(template["destination"] for template in templates),
        commands=tuple(script.path for script in scripts.values()),
    )


def stale(directory: str, old_config: str, wanted: t.Iterable[str]) -> list[str]:
    """Files below ``directory`` that the old configuration named and the new one does not: ours, and no longer used."""
    try:
        entries = json.loads(old_config)["template"]
        named = [entry["source"] for entry in entries] + [entry["exec"]["command"][0] for entry in entries if "exec" in entry]
    except (ValueError, KeyError, TypeError, IndexError):
        # Not written by us, or broken: nothing in it is known to be ours.
        return []
    ours = (f"{directory}/templates/", f"{directory}/commands/")
    return sorted({path for path in named if isinstance(path, str) and path.startswith(ours) and os.path.normpath(path) == path} - set(wanted))


def complaint(output: str) -> str:
    """The sentences of consul-template's output that say what is wrong, without time stamps."""
    found = [line.split("[ERR]", 1)[1].strip() for line in output.splitlines() if "[ERR]" in line]
    lines = found or [line.strip() for line in output.splitlines() if line.strip()][-3:]
    details = [line.strip() for line in output.splitlines() if line.startswith("* ")]
    return "; ".join(line.replace("(cli) ", "") for line in [*lines, *(detail for detail in details if detail not in lines)]) or "no message"
