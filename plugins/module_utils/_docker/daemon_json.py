# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's daemon.json: read it strictly, merge settings into it, and take them out again. Private to the collection."""

from __future__ import annotations

import copy
import ipaddress
import json
import re
import shlex
import typing as t

Json = t.Any
Path = tuple[str, ...]


class DaemonJsonError(Exception):
    """Something the operator has to know; one sentence with the remedy."""


# --- Reading -----------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')


def place(text: str, offset: int) -> str:
    """The line and column of an offset, with the line itself and a caret below it."""
    line = text.count("\n", 0, offset) + 1
    start = text.rfind("\n", 0, offset) + 1
    shown = text[start:].partition("\n")[0].rstrip("\r")
    column = offset - start + 1
    # Tabs stay tabs, so that the caret stands below the place in every terminal.
    indent = "".join("\t" if character == "\t" else " " for character in shown[: column - 1])
    return f"line {line}, column {column}:\n{shown}\n{indent}^"


def parse(text: str, path: str) -> dict[str, Json]:
    """The object in the text; an empty text is an empty object, as nothing can be lost from it."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as exc:
        raise DaemonJsonError(f"{path} is not valid JSON: {exc.msg} at {place(text, exc.pos)}\nRepair the file; it was not changed") from exc
    except ValueError as exc:
        offset = max(text.find(str(exc)), 0)
        raise DaemonJsonError(f"{path} is not valid JSON: {exc} is no JSON value, at {place(text, offset)}\nRepair the file; it was not changed") from exc
    if not isinstance(value, dict):
        offset = len(text) - len(text.lstrip())
        raise DaemonJsonError(f"{path} must hold one JSON object, but has something else at {place(text, offset)}\nRepair the file; it was not changed")
    double = _first_double(text)
    if double is not None:
        key, offset = double
        raise DaemonJsonError(f"{path} has the key {key} twice, the second time at {place(text, offset)}\nRemove one of them; the file was not changed")
    return value


def _refuse_constant(name: str) -> t.NoReturn:
    raise ValueError(name)


def _first_double(text: str) -> tuple[str, int] | None:
    """The first key that an object of a valid JSON text has twice, and where the second one is."""
    open_keys: list[set[str] | None] = []
    tokens = list(_TOKEN.finditer(text))
    for token, following in zip(tokens, [*tokens[1:], None]):
        word = token.group()
        if word in ("{", "["):
            open_keys.append(set() if word == "{" else None)
        elif word in ("}", "]"):
            open_keys.pop()
        elif word.startswith('"') and following is not None and following.group() == ":" and open_keys:
            keys = open_keys[-1]
            name = json.loads(word)
            if keys is not None:
                if name in keys:
                    return word, token.start()
                keys.add(name)
    return None


def render(value: t.Mapping[str, Json]) -> str:
    """The text of the file."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


# --- Truth values ----------------------------------------------------------------------------------------------------

#: Keys whose value dockerd takes as true or false only.
BOOLEANS = frozenset(
    {
        "allow-direct-routing",
        "debug",
        "experimental",
        "icc",
        "init",
        "ip-forward",
        "ip-forward-no-drop",
        "ip-masq",
        "ip6tables",
        "iptables",
        "ipv6",
        "live-restore",
        "no-new-privileges",
        "raw-logs",
        "selinux-enabled",
        "tls",
        "tlsverify",
        "userland-proxy",
    }
)
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}


def with_truth_values(settings: t.Mapping[str, Json]) -> dict[str, Json]:
    """Return settings with a truth value where a text means one, as by -e NAME=false; dockerd takes no text."""
    texts = {key: value for key, value in settings.items() if key in BOOLEANS and isinstance(value, str)}
    return {**settings, **{key: _TRUTH.get(text.strip().lower(), text) for key, text in texts.items()}}


# --- Merging -----------------------------------------------------------------------------------------------------------


class Owned(t.NamedTuple):
    """A setting that this role made: where, what, and what was there before (``had`` tells whether anything was)."""

    path: Path
    value: Json
    had: bool
    before: Json

    def to_json(self) -> dict[str, Json]:
        """A form that ``from_json`` reads back."""
        return {"path": list(self.path), "value": self.value, "had": self.had, "before": self.before}

    @classmethod
    def from_json(cls, data: t.Mapping[str, Json]) -> Owned:
        """The setting that ``to_json`` described."""
        return cls(tuple(data["path"]), data["value"], data["had"], data["before"])


_ABSENT = object()


def leaves(settings: t.Mapping[str, Json], parent: Path = ()) -> dict[Path, Json]:
    """The single settings of a nested dict. An empty dict is a setting of its own."""
    found: dict[Path, Json] = {}
    for key, value in settings.items():
        path = (*parent, key)
        if isinstance(value, dict) and value:
            found.update(leaves(value, path))
        else:
            found[path] = value
    return found


def merge(current: t.Mapping[str, Json], settings: t.Mapping[str, Json], owned: t.Sequence[Owned]) -> tuple[dict[str, Json], list[Owned]]:
    """The file's content with the settings in it and what we had set before but want no more taken out of it.

    A setting of ours that somebody has changed since is theirs: it stays when we want it no more.

    Returns:
        The new content and what is ours in it.
    """
    merged = copy.deepcopy(dict(current))
    wanted = leaves(settings)
    for setting in owned:
        if setting.path not in wanted and _get(merged, setting.path) == setting.value:
            _put(merged, setting.path, setting.before if setting.had else _ABSENT)
    earlier = {setting.path: setting for setting in owned}
    ours = []
    for path, value in wanted.items():
        present = _get(merged, path)
        _put(merged, path, value)
        known = earlier.get(path)
        had, before = (known.had, known.before) if known else (present is not _ABSENT, None if present is _ABSENT else present)
        ours.append(Owned(path, value, had, before))
    return merged, ours


def _get(content: t.Mapping[str, Json], path: Path) -> Json:
    value: Json = content
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _put(content: dict[str, Json], path: Path, value: Json) -> None:
    parents = [content]
    for depth, key in enumerate(path[:-1], 1):
        child = parents[-1].get(key, _ABSENT)
        if child is _ABSENT:
            if value is _ABSENT:
                return
            child = parents[-1][key] = {}
        if not isinstance(child, dict):
            raise DaemonJsonError(f"the key {'.'.join(path[:depth])} holds no object, so {'.'.join(path)} cannot be set in it; remove or rename that key")
        parents.append(child)
    if value is not _ABSENT:
        parents[-1][path[-1]] = value
        return
    parents[-1].pop(path[-1], None)
    for parent, key in reversed(list(zip(parents, path[:-1]))):
        if not parent[key]:
            del parent[key]


# --- Checking ----------------------------------------------------------------------------------------------------------

_SHORT_FLAGS = {
    "H": "hosts", "D": "debug", "l": "log-level", "G": "group", "b": "bridge", "p": "pidfile", "s": "storage-driver", "g": "data-root",
}  # fmt: skip
#: Flags whose key in the file has another name. A key of the file that may be given on both sides is not listed.
_LONG_FLAGS = {
    "host": "hosts",
    "graph": "data-root",
    "label": "labels",
    "log-opt": "log-opts",
    "storage-opt": "storage-opts",
    "exec-opt": "exec-opts",
    "dns-opt": "dns-opts",
    "dns-opts": "dns-opts",
    "insecure-registry": "insecure-registries",
    "registry-mirror": "registry-mirrors",
    "authorization-plugin": "authorization-plugins",
    "default-ulimit": "default-ulimits",
    "default-address-pool": "default-address-pools",
    "node-generic-resource": "node-generic-resources",
}


def flag_keys(arguments: t.Iterable[str]) -> dict[str, str]:
    """The keys of daemon.json that a command line of dockerd sets, with the flag that does."""
    keys: dict[str, str] = {}
    for argument in arguments:
        if argument.startswith("--"):
            flag = argument.partition("=")[0]
            keys[_LONG_FLAGS.get(flag[2:], flag[2:])] = flag
        elif re.match(r"-[A-Za-z]", argument) and argument[1] in _SHORT_FLAGS:
            keys[_SHORT_FLAGS[argument[1]]] = argument[:2]
    return keys


def flag_value(arguments: t.Sequence[str], flag: str) -> str:
    """Return the value that a command line gives a flag, the last one as pflag does; empty when it has none."""
    value = ""
    for number, argument in enumerate(arguments):
        if argument == flag and number + 1 < len(arguments):
            value = arguments[number + 1]
        elif argument.startswith(f"{flag}="):
            value = argument[len(flag) + 1 :]
    return value


def command_line(argv: str, environment: t.Mapping[str, str]) -> list[str]:
    """The arguments of a unit's command, its variables replaced as systemd does (systemd.service(5))."""
    arguments: list[str] = []
    for word in split_words(argv):
        whole = re.fullmatch(r"\$(\w+)", word)
        if whole:
            arguments.extend(split_words(environment.get(whole.group(1), "")))
        else:
            arguments.append(re.sub(r"\$\{(\w+)\}", lambda match: environment.get(match.group(1), ""), word))
    return arguments


def environment_file(text: str) -> dict[str, str]:
    """The variables of an EnvironmentFile."""
    found = {}
    for line in text.splitlines():
        name, separator, value = line.strip().partition("=")
        if separator and re.fullmatch(r"\w+", name):
            found[name] = " ".join(split_words(value)) if value[:1] in "'\"" else value
    return found


def split_words(text: str) -> list[str]:
    """The words of a text that is quoted as for a shell; its parts between blanks when a quote is not closed."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def check_conflicts(content: t.Mapping[str, Json], flags: t.Mapping[str, str], path: str, where: str) -> None:
    """Refuse what dockerd refuses: the same setting in the file and on its command line."""
    both = [key for key in content if key in flags]
    if both:
        pairs = ", ".join(f"{key} ({flags[key]})" for key in both)
        raise DaemonJsonError(
            f"{pairs} would be set both in {path} and on the command line of dockerd in {where}, and dockerd would refuse to start;"
            " remove the flag there, or the key here. Nothing was changed"
        )


def check_dns(servers: Json) -> None:
    """Refuse name servers that a container cannot reach."""
    if not isinstance(servers, list):
        raise DaemonJsonError("dns must be a list of addresses")
    for server in servers:
        try:
            address = ipaddress.ip_address(server)
        except ValueError as exc:
            raise DaemonJsonError(f"'{server}' in dns is not an IP address; give the address of a name server on the containers' network path") from exc
        if address.is_loopback or address.is_unspecified:
            raise DaemonJsonError(f"{server} in dns is the container itself when seen from a container; give an address of the host instead")
