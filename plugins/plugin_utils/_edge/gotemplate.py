# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building blocks of the consul-template sources: what both sides of the edge check and report, in Go template language.

Private to the collection. No Ansible import.

How the templates are laid out: an action begins with ``{{-`` and so eats the line break before it; a line of output therefore
brings its own line break in front. Values of the edge description come in through ``@NAME@`` marks, after they were checked.
Nothing of the catalogue reaches the output except through a pattern, a range, or ``toJSON`` in a comment.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from ...module_utils._consul.look import LETTERS, PUNYCODE, SEPARATORS, look
from .schema import UDP_TAG, remote_datacenters

# A service name that consul-template can ask for and that is one label of a host name. Its length is checked apart: that is cheaper.
NAME = r"\A[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\z"
NAME_LENGTH = 63
PORT = r"\A[1-9][0-9]{0,4}\z"
NAME_WITH_PORT = r"\A.+-[1-9][0-9]{0,4}\z"
PERCENT = r"\A(?:100|[1-9]?[0-9])\z"
TRUE = r"(?i)\A(?:1|true|yes|on)\z"
FALSE = r"(?i)\A(?:0|false|no|off)\z"
VERSION = r"\A[A-Za-z0-9][A-Za-z0-9._+-]*\z"

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
# Unicast only: not 0/8 (this host), 127/8 (loopback), 224/3 (multicast, reserved). 169.254/16 (link-local, often metadata services) is refused apart.
_FIRST = r"(?:22[0-3]|2[01][0-9]|1[3-9][0-9]|12[0-689]|1[01][0-9]|[1-9][0-9]|[1-9])"
IPV4 = rf"\A{_FIRST}(?:\.{_OCTET}){{3}}\z"
IPV4_LOOPBACK = rf"\A127(?:\.{_OCTET}){{3}}\z"
# Global (2000::/3) and unique local (fc00::/7) addresses, in the forms that nginx reads (it refuses "::" for one last group).
# Leaves out loopback, link-local, multicast and every form that carries an IPv4 address.
_GROUP = r"[0-9A-Fa-f]{1,4}"
_IPV6_FIRST = r"(?:[23][0-9A-Fa-f]{3}|[fF][cCdD][0-9A-Fa-f]{2})"
IPV6 = (
    r"\A(?:"
    + "|".join(
        [rf"{_IPV6_FIRST}(?::{_GROUP}){{7}}"]
        + [rf"{_IPV6_FIRST}{f'(?::{_GROUP}){{{before}}}' if before else ''}::(?:{_GROUP}(?::{_GROUP}){{0,{5 - before}}})?" for before in range(6)]
    )
    + r")\z"
)

_MARK = re.compile(r"@([A-Z][A-Z_0-9]*)@")


def fill(text: str, **values: t.Any) -> str:
    """The text with each ``@NAME@`` replaced by the value of ``name``; a missing or unused one is a mistake of ours."""
    marks = {mark.lower() for mark in _MARK.findall(text)}
    if marks != set(values):
        raise KeyError(f"marks without value: {sorted(marks - set(values))}, values without mark: {sorted(set(values) - marks)}")
    return _MARK.sub(lambda match: str(values[match.group(1).lower()]), text)


def go_string(text: str) -> str:
    """The text as a raw string of Go."""
    if "`" in text:
        raise ValueError("a raw string of Go can't hold a backquote")
    return f"`{text}`"


def go_ranges(variable: str, ranges: t.Iterable[str]) -> str:
    """A condition that is true when the integer is in one of the ranges ``first-last``."""
    tests = []
    for item in ranges:
        first, last = item.split("-")
        tests.append(f"(and (ge {variable} {first}) (le {variable} {last}))")
    return f"or {' '.join(tests)} false" if tests else "false"


def go_host_labels(patterns: t.Iterable[str]) -> str:
    """A Go pattern for the first labels of host name patterns."""
    labels = [re.escape(pattern.partition(".")[0]).replace(r"\*", "[a-z0-9_-]*").replace(r"\-", "-") for pattern in patterns]
    return rf"\A(?:{'|'.join(labels)})\z"


def go_look(expression: str, pairs: t.Iterable[tuple[str, str]] = (*SEPARATORS, *LETTERS)) -> str:
    """Return an expression for what a name in lower case looks like."""
    return "".join([expression, *(f' | replaceAll "{seen}" "{common}"' for seen, common in pairs)])


def go_alike(patterns: t.Iterable[str]) -> str:
    """Return a Go pattern for the first labels that look like one of these host names, once their letters are folded.

    Separators do not count. In a pattern with ``*`` they do, or every ``consul`` would be one of ``*-ui``: it ends so.
    """
    labels = []
    for pattern in patterns:
        label = pattern.partition(".")[0]
        if "*" not in label:
            labels.append("[-_]*".join(look(label)))
            continue
        parts = ["[-_]+".join(look(piece) for piece in re.split("[-_]", part)) for part in label.split("*")]
        labels.append("[a-z0-9_-]*".join(parts))
    return rf"\A(?:{'|'.join(labels)})\z"


def go_ipv6_spellings(address: str) -> str:
    """A Go pattern for every spelling of an IPv6 address in lower case, with brackets around it."""
    groups = [int(group, 16) for group in ipaddress.IPv6Address(address).exploded.split(":")]
    texts = [rf"0{{0,{4 - len(f'{group:x}')}}}{group:x}" if len(f"{group:x}") < 4 else f"{group:x}" for group in groups]
    forms = [":".join(texts)]
    for first in range(8):
        for last in range(first, 8):
            if not any(groups[first : last + 1]):
                forms.append(f"{':'.join(texts[:first])}::{':'.join(texts[last + 1 :])}")
    return rf"\A\[(?:{'|'.join(forms)})\]\z"


def bracketed(address: str) -> str:
    """What goes in front of ``PORT`` in a ``listen`` at this address."""
    return f"[{address}]:" if ":" in address else f"{address}:"


def listen_addresses(settings: dict[str, t.Any]) -> list[str]:
    """What goes in front of ``PORT`` in each ``listen`` of the public side."""
    if settings["listen_addresses"]:
        return [bracketed(address) for address in settings["listen_addresses"]]
    return ["", "[::]:"] if settings["ipv6"] else [""]


@dataclass(frozen=True)
class Scope:
    """To whom services are exposed. Both scopes are rendered by the same building blocks, one after the other."""

    # What the names of upstreams begin with, so that no two of them are the same.
    prefix: str
    # What goes into report lines, and into the names of the templates that write them.
    report: str
    skip: str
    listen: tuple[str, ...]
    domain: str
    http_port: int


def scopes(settings: dict[str, t.Any]) -> dict[str, Scope]:
    """The scopes that a description has: public, internal or both."""
    internal = settings["internal"]
    found = {}
    if settings["public"]:
        found["public"] = Scope("", "", "", tuple(listen_addresses(settings)), settings["domain"], settings["http_port"])
    if internal["listen_addresses"]:
        listen = tuple(bracketed(address) for address in internal["listen_addresses"])
        found["internal"] = Scope("internal_", ' "scope" "internal"', "internal ", listen, internal["domain"], internal["http_port"])
    return found


# One refusal. Whatever comes from outside is cut and reduced to printable ASCII, and toJSON escapes it: it can't end the comment line,
# and the line stays below the 4096 bytes that nginx reads of one comment.
_SKIP = r"""
{{- define "skip" }}
{{- if lt (scratch.Get "skips") @MAX_REPORTS@ }}
#! {{ toJSON . }}
{{- end }}
{{- scratch.Set "skips" (add 1 (scratch.Get "skips")) }}
{{- end }}
{{- define "plain" }}{{ regexReplaceAll `[^ -~]` "?" (printf "%.100s" .) }}{{ end }}
@SKIP_SCOPES@
{{- define "skips" }}
{{- if gt (scratch.Get "skips") @MAX_REPORTS@ }}
{{- $more := subtract @MAX_REPORTS@ (scratch.Get "skips") }}
#! {{ toJSON (sprig_dict "kind" "skipped" "side" "@SIDE@" "service" "" "reason" "more refusals are not listed" "count" $more) }}
{{- end }}
{{- end }}"""

_SKIP_SCOPE = r"""
{{- define "skip @SKIP@service" }}
{{- template "skip" (sprig_dict "kind" "skipped" "side" "@SIDE@"@REPORT@ "service" (executeTemplate "plain" .service) "reason" .reason) }}
{{- end }}
{{- define "skip @SKIP@instance" }}
{{- template "skip" (sprig_dict "kind" "skipped" "side" "@SIDE@"@REPORT@ "service" .service "instance" (executeTemplate "plain" .instance.ID)
      "address" (executeTemplate "plain" .instance.Address) "port" .instance.Port "reason" .reason) }}
{{- end }}"""

# A service name, before anything is asked about it: consul-template exits on names that its query language can't express.
# Leaves $why. What runs for every service or instance is written into its loop and keeps to variables: named templates and
# scratch cost so much that a thousand services would be noticed.
_NAME = r"""
{{- $why := "" }}
{{- if or (gt (len .Name) @NAME_LENGTH@) (not (regexMatch @NAME@ .Name)) }}
{{- $why = "the name must be at most @NAME_LENGTH@ letters, digits, hyphens and underscores, with a letter or digit at both ends" }}
{{- end }}"""
_PUNYCODE = f"""
{{{{- if and (not $why) (sprig_hasPrefix "{PUNYCODE}" (toLower .Name)) }}}}
{{{{- $why = "a name that begins with {PUNYCODE} is shown with other letters than it has" }}}}
{{{{- end }}}}"""
_UNEXPOSED = r"""
{{- if and (not $why) (eq (toLower .Name) @NAMES@) }}{{ $why = "the name is in unexposed_services" }}{{ end }}"""
_IMPOSTOR = r"""
{{- if not $why }}
{{- with index $impostors .Name }}{{ $why = printf "the name looks like that of protected service %s" . }}{{ end }}
{{- end }}"""
NAME_CHECK = _NAME.replace("@NAME_LENGTH@", str(NAME_LENGTH)).replace("@NAME@", f"`{NAME}`") + _PUNYCODE

# Names that only look like another one, found once for the whole catalogue. Leaves $impostors, name -> protected
# service, which no edge serves. On the http side also $alike, name -> service, which is a line of the report each.
_LOOKS = r"""
{{- $impostors := sprig_dict }}
{{- $guarded := sprig_dict@GUARDED@ }}
@BEGIN@
{{- range @SERVICES@ }}
{{- $label := toLower .Name }}
{{- if and (le (len .Name) @NAME_LENGTH@) (not (@PROTECTED@)) }}
{{- $look := @LOOK@ }}
{{- $other := index $guarded $look }}
{{- if $other }}
{{- $_ := sprig_set $impostors .Name $other }}
@IMPOSTOR@
@TWIN@
{{- end }}
{{- end }}
{{- end }}"""
_LOOKS_BEGIN = r"""
{{- $alike := sprig_dict }}
{{- $looks := sprig_dict }}"""
# One with the tag is refused, which is a line as well.
_LOOKS_IMPOSTOR = r"""
{{- if not (.Tags | contains "@TAG@") }}{{ $_ := sprig_set $alike .Name $other }}{{ end }}"""
_LOOKS_TWIN = r"""
{{- else }}
{{- $other = index $looks $look }}
{{- if not $other }}{{ $_ := sprig_set $looks $look .Name }}
{{- else if ne $label (toLower $other) }}{{ $_ := sprig_set $alike .Name $other }}
{{- end }}"""
_ALIKE = r"""
{{- range $name, $other := $alike }}
{{- template "skip" (sprig_dict "kind" "warning" "side" "http" "service" (executeTemplate "plain" $name)
      "reason" (printf "the name looks like that of service %s" (executeTemplate "plain" $other))) }}
{{- end }}"""

# Instances of other data centres, from files that a process of its own keeps: a question to a data centre that is away is not answered, and consul-template
# renders a source only when all of its questions are. What was known last stays in the file. Leaves $remote and $spares, lists of instances by the name of
# the service, and $offered, these services like those of the catalogue, without the tags that the catalogue has for them.
_REMOTE = r"""
{{- $remote := sprig_dict }}
{{- $spares := sprig_dict }}
{{- $offers := sprig_dict }}
@FILES@
{{- range services }}
{{- $tags := index $offers .Name }}
{{- if $tags }}{{ range .Tags }}{{ $_ := sprig_unset $tags . }}{{ end }}{{ end }}
{{- end }}
{{- $offered := sprig_list }}
{{- range $name, $tags := $offers }}{{ $offered = sprig_append $offered (sprig_dict "Name" $name "Tags" (sprig_keys $tags)) }}{{ end }}"""
_REMOTE_FILE = r"""
{{- with sprig_dict @USES@ }}
{{- $uses := . }}
{{- $there := sprig_dict }}
{{- range $name, $instances := file "@PATH@" | parseJSON }}
{{- $use := index $uses $name }}
{{- if $use }}
{{- $tags := or (index $offers $name) (sprig_dict) }}
{{- $list := sprig_list }}
{{- range $instances }}
{{- $weights := sprig_dict "Passing" (sprig_int .Weights.Passing) "Warning" (sprig_int .Weights.Warning) }}
{{- $list = sprig_append $list (sprig_dict "Name" .Name "ID" .ID "Address" .Address "Port" (sprig_int .Port) "Status" .Status
      "Tags" (or .Tags (sprig_list)) "ServiceMeta" (or .ServiceMeta (sprig_dict)) "Weights" $weights "Node" ""
      "ServiceTaggedAddresses" (sprig_dict "consul-virtual" (sprig_dict "Address" .Sidecar))) }}
{{- range .Tags }}{{ $_ := sprig_set $tags . true }}{{ end }}
{{- $_ := sprig_set $there $name true }}
{{- end }}
{{- $_ := sprig_set $offers $name $tags }}
{{- $to := $spares }}
{{- if eq $use "always" }}{{ $to = $remote }}{{ end }}
{{- $_ := sprig_set $to $name (sprig_concat (or (index $to $name) (sprig_list)) $list) }}
{{- end }}
{{- end }}
@MISSING@
{{- end }}"""
_REMOTE_MISSING = r"""
{{- range $name, $_ := $uses }}
{{- if not (index $there $name) }}
{{- template "skip" (sprig_dict "kind" "warning" "side" "@SIDE@" "service" $name
      "reason" "remote_services has this name, and no instance of it in data center @DATACENTER@ is known") }}
{{- end }}
{{- end }}"""
# All instances of a service with a tag: the own ones and those that are used like them, then those for the time when none of these answers ($spare).
_EACH_REMOTE = r"""
{{- range $spare, $instances := sprig_list (sprig_concat (service (printf "@TAG@.%s|any" $name)) (or (index $remote $name) (sprig_list)))
      (or (index $spares $name) (sprig_list)) }}
{{- range @VARIABLE@$instances }}"""
_EACH_REMOTE_END = r"""
{{- end }}
{{- end }}"""


def remote_file(settings: dict[str, t.Any], datacenter: str) -> str:
    """The file with the instances of another data centre."""
    return f"{settings['remote_directory']}/datacenter-{datacenter}.json"


def _remote_defines(side: str, settings: dict[str, t.Any]) -> str:
    if not settings["remote_services"]:
        return ""
    files = []
    for datacenter in remote_datacenters(settings):
        uses = [f'"{remote["name"]}" "{remote["use"]}"' for remote in settings["remote_services"] if remote["datacenter"] == datacenter]
        # Once is enough.
        missing = fill(_REMOTE_MISSING, side=side, datacenter=datacenter) if side == "http" else ""
        files.append(fill(_REMOTE_FILE, uses=" ".join(uses), path=remote_file(settings, datacenter), missing=missing))
    return fill(_REMOTE, files="".join(files))


def each_instance(settings: dict[str, t.Any], tag: str, variable: str = "") -> tuple[str, str]:
    """What begins and ends the work on all instances of $name with the tag."""
    if not settings["remote_services"]:
        return f'\n{{{{- range {variable}service (printf "{tag}.%s|any" $name) }}}}', "\n{{- end }}"
    return fill(_EACH_REMOTE, tag=tag, variable=variable), _EACH_REMOTE_END


def all_services(settings: dict[str, t.Any]) -> str:
    """The list of services with their tags."""
    return "sprig_concat services $offered" if settings["remote_services"] else "services"


def if_remote(settings: dict[str, t.Any], text: str) -> str:
    """The text, where there are services of other data centres."""
    return f"\n{text}" if settings["remote_services"] else ""


# Consul's DNS and health API take names that differ only in case for one name, so they have one owner on each side: the one written in lower case, else the
# first in byte order, whatever its health: a name is never taken from its owner because the owner is ill. A protected name has its owner even while the
# catalogue lacks it. Leaves $spelled, name in lower case -> owner.
_SPELLED = r"""
{{- $spelled := sprig_dict@PROTECTED@ }}
{{- range @SERVICES@ }}
{{- if @TAGGED@ }}
{{- $label := toLower .Name }}
{{- if or (eq .Name $label) (not (index $spelled $label)) }}{{ $_ := sprig_set $spelled $label .Name }}{{ end }}
{{- end }}
{{- end }}"""
# One line about each further spelling of the whole catalogue, unless it was refused already: it is there by mistake, or to stand in for the owner.
_MISSPELLED = r"""
@SPELLED@
{{- range @SERVICES@ }}
{{- $label := toLower .Name }}
{{- $owner := index $spelled $label }}
{{- if and (ne $owner .Name) (or (not (.Tags | contains "@TAG@")) (eq .Name (print (index $claims $label)))) }}
@NAME_CHECK@
{{- if not $why }}
{{- template "skip" (sprig_dict "kind" "warning" "side" "http" "service" .Name
      "reason" (printf "the name is another spelling of service %s" $owner)) }}
{{- end }}
{{- end }}
{{- end }}"""

# Who gets which host name, as the map $claims of first label to service name.
_CLAIMS = r"""
@SPELLED@
{{- $claims := sprig_dict }}
{{- range @SERVICES@ }}
{{- if .Tags | contains "@TAG@" }}
@NAME_CHECK@
{{- $label := toLower .Name }}
@HOST_RULES@
{{- $owner := index $spelled $label }}
{{- if and (not $why) (ne $owner .Name) }}{{ $why = printf "the host name belongs to service %s" $owner }}{{ end }}
{{- if $why }}
{{- template "skip @SKIP@service" (sprig_dict "service" .Name "reason" $why) }}
{{- else }}{{ $_ := sprig_set $claims $label .Name }}
{{- end }}
{{- end }}
{{- end }}"""
# The same names without a word about the losers: for a side that only has to keep off what is another's.
_OWNERS = r"""
@SPELLED@
{{- $owners := sprig_dict }}
{{- range @SERVICES@ }}
{{- if .Tags | contains "@TAG@" }}
@NAME_CHECK@
{{- $label := toLower .Name }}
@HOST_RULES@
{{- if and (not $why) (eq .Name (index $spelled $label)) }}{{ $_ := sprig_set $owners $label .Name }}{{ end }}
{{- end }}
{{- end }}"""
_HOST_ALLOWED = r"""
{{- if and (not $why) (not (regexMatch @PATTERN@ $label)) }}{{ $why = "the host name is not in host_names" }}{{ end }}"""
_HOST_RESERVED = r"""
{{- if and (not $why) (regexMatch @PATTERN@ $label) }}{{ $why = "the host name is in reserved_host_names" }}{{ end }}
{{- if and (not $why) (regexMatch @ALIKE@ (@LETTERS@)) }}
{{- $why = "the host name looks like one in reserved_host_names" }}
{{- end }}"""


def _protected(settings: dict[str, t.Any]) -> dict[str, str]:
    """Return the protected services by their names in lower case, which count where two differ in case only."""
    return {name.lower(): name for name in sorted(settings["protected_services"])}


def _looks(side: str, settings: dict[str, t.Any]) -> str:
    """Find the names that only look like others; leaves $impostors and, on the http side, $alike."""
    protected = _protected(settings)
    if side != "http" and not protected:
        return ""
    first: dict[str, str] = {}
    for label, name in protected.items():
        first.setdefault(look(label), name)
    tag = settings["http_tag"] if settings["public"] else settings["internal"]["http_tag"]
    return fill(
        _LOOKS,
        guarded="".join(f' "{seen}" "{name}"' for seen, name in first.items()),
        services=all_services(settings),
        name_length=NAME_LENGTH,
        protected=f"eq $label {' '.join(map(go_string, protected))}" if protected else "false",
        look=go_look("$label"),
        begin=_LOOKS_BEGIN if side == "http" else "",
        impostor=fill(_LOOKS_IMPOSTOR, tag=tag) if side == "http" else "",
        twin=_LOOKS_TWIN if side == "http" else "",
    )


def _host_rules(settings: dict[str, t.Any]) -> str:
    rules = ""
    if settings["host_names"]:
        rules += fill(_HOST_ALLOWED, pattern=go_string(go_host_labels(settings["host_names"])))
    if settings["reserved_host_names"]:
        reserved = settings["reserved_host_names"]
        pattern, alike = go_string(go_host_labels(reserved)), go_string(go_alike(reserved))
        rules += fill(_HOST_RESERVED, pattern=pattern, alike=alike, letters=go_look("$label", LETTERS))
    return rules


def host_claims(tag: str, settings: dict[str, t.Any], scope: Scope) -> str:
    """Gives host names to the services that have the tag; leaves $claims. The description's rules are about names below the public domain."""
    host_rules = _host_rules(settings) if scope.domain == settings["domain"] else ""
    return fill(
        _CLAIMS,
        spelled=spellings(settings, tag),
        tag=tag,
        name_check=name_check(settings),
        skip=scope.skip,
        host_rules=host_rules,
        services=all_services(settings),
    )


def name_check(settings: dict[str, t.Any]) -> str:
    """Return the check of a service's name: its form, whether it may be exposed at all, and what it looks like."""
    names = " ".join(f'"{name}"' for name in sorted({name.lower() for name in settings["unexposed_services"]}))
    unexposed = fill(_UNEXPOSED, names=names) if names else ""
    return NAME_CHECK + unexposed + (_IMPOSTOR if settings["protected_services"] else "")


def spellings(settings: dict[str, t.Any], tag: str = "") -> str:
    """Which service has a name that differs from others only in case, among those with the tag or among all; leaves $spelled."""
    protected = _protected(settings)
    owners = "".join(f' "{label}" "{name}"' for label, name in protected.items())
    tagged = f'.Tags | contains "{tag}"' if tag else "true"
    if protected:
        tagged = f"and ({tagged}) (not (eq (toLower .Name) {' '.join(map(go_string, protected))}))"
    return fill(_SPELLED, services=all_services(settings), protected=owners, tagged=tagged)


def misspelled(tag: str, settings: dict[str, t.Any]) -> str:
    """Report names that differ from others in case or in look only and were not refused; reads $claims and $alike."""
    spelled, services = spellings(settings), all_services(settings)
    return fill(_MISSPELLED, spelled=spelled, tag=tag, name_check=NAME_CHECK, services=services) + _ALIKE


def host_owners(tag: str, settings: dict[str, t.Any]) -> str:
    """Which service with the tag has which host name, without reporting anything; leaves $owners."""
    return fill(
        _OWNERS, spelled=spellings(settings, tag), tag=tag, name_check=name_check(settings), host_rules=_host_rules(settings), services=all_services(settings)
    )


def certificate_of(settings: dict[str, t.Any]) -> str:
    """Leaves $certificate: the name of the certificate that covers the host name of $label, or an empty text. An exact name wins over ``*``."""
    exact, every = [], ""
    for certificate in settings["tls"]["certificates"]:
        labels = [host.partition(".")[0] for host in certificate["host_names"]]
        if "*" in labels:
            every = certificate["name"]
        if exact_labels := [f'"{label}"' for label in labels if label != "*"]:
            exact.append((" ".join(exact_labels), certificate["name"]))
    lines = [f'\n{{{{- $certificate := "{every}" }}}}']
    for number, (labels_text, name) in enumerate(exact):
        lines.append(f'{{{{- {"else " if number else ""}if eq $label {labels_text} }}}}{{{{ $certificate = "{name}" }}}}')
    return "\n".join(lines + (["{{- end }}"] if exact else []))


def tls_socket(settings: dict[str, t.Any], name: str) -> str:
    """The unix socket at which TLS is ended with the certificate of this name."""
    return f"unix:{settings['tls']['socket_directory']}/tls-{name}.sock"


# An address as nginx wants it, or "-". Nodes are few: each distinct address is looked at once. Each pattern is compiled anew
# whenever it is asked, which costs more than all the rest, so only the one that can match is.
_ADDRESS = r"""
{{- define "address" }}
{{- $to := "-" }}
{{- with .address }}
{{- if gt (len .) 45 }}
@LOOPBACK@
{{- else if contains ":" . }}{{ if regexMatch @IPV6@ . }}{{ $to = printf "[%s]" . | toLower }}{{ end }}
{{- else if sprig_hasPrefix "169.254." . }}
{{- else if regexMatch @IPV4@ . }}{{ $to = . }}
{{- end }}
{{- end }}
{{- $_ := sprig_set .cache .address $to }}
@EDGES@
{{- end }}
{{- $addresses := sprig_dict }}
{{- $edges := sprig_dict }}"""
_ADDRESS_EDGE = """
{{- if @EDGE@ }}{{ $_ := sprig_set .edges .address true }}{{ end }}"""
_ADDRESS_LOOPBACK = r"""
{{- else if sprig_hasPrefix "127." . }}{{ if regexMatch @IPV4_LOOPBACK@ . }}{{ $to = . }}{{ end }}
{{- else if eq . "::1" }}{{ $to = "[::1]" }}"""

# consul-template does not expose the kind of a service. What it exposes is the virtual address that Consul's servers give to every sidecar proxy and to
# every service that speaks Connect natively, under whatever name; /v1/health/connect lists the latter under their own name and the former under that of
# the service behind them. The question is only asked about services with such an address, and about a bounded number of them.
MESH_QUESTIONS = 50
_MESH = r"""
{{- define "natives" }}
{{- range connect (printf "%s|any" .name) }}{{ $_ := sprig_set $.found (printf "%s %s" .Node .ID) true }}{{ end }}
{{- end }}
{{- $mesh := sprig_dict }}"""
# What can't serve an exposed service, whatever its health and labels: it gets no traffic and no claim to a name or port. Leaves $foreign, the reason.
_FOREIGN = r"""
{{- $foreign := "" }}
{{- $protocol := index .ServiceMeta "registrator-protocol" }}
{{- if or (.Tags | contains "@UDP@") (sprig_hasSuffix ":udp" .ID) (and $protocol (ne $protocol "tcp")) }}
{{- $foreign = "not a TCP instance: it has tag udp, an id that ends in :udp, or meta registrator-protocol" }}
{{- else if (index .ServiceTaggedAddresses "consul-virtual").Address }}
{{- $natives := index $mesh $name }}
{{- if not $natives }}
{{- $natives = sprig_dict "" true }}
{{- if lt (len $mesh) @QUESTIONS@ }}{{ template "natives" (sprig_dict "name" $name "found" $natives) }}{{ end }}
{{- $_ := sprig_set $mesh $name $natives }}
{{- end }}
{{- if not (index $natives (printf "%s %s" .Node .ID)) }}{{ $foreign = "a sidecar proxy of Consul Connect is never exposed" }}{{ end }}
{{- else }}
{{- range .Checks }}{{ if eq .Name @GATEWAY_CHECKS@ }}{{ $foreign = "a gateway of Consul Connect is never exposed" }}{{ end }}{{ end }}
{{- end }}"""
# Gateways have nothing of that kind, but the check that Consul makes for them, whatever their name: "consul connect envoy -gateway -register".
_GATEWAYS = ("api", "ingress", "mesh", "terminating")
FOREIGN = (
    _FOREIGN.replace("@UDP@", UDP_TAG)
    .replace("@QUESTIONS@", str(MESH_QUESTIONS))
    .replace("@GATEWAY_CHECKS@", " ".join(f'"{kind}-gateway listening"' for kind in _GATEWAYS))
)

# The instance that is the dot. Leaves $why (empty when it is usable), $server and $weight.
_INSTANCE = r"""
{{- $why := "" }}
{{- $weight := 100 }}
{{- $consul := .Weights.Passing }}
@WARNING@
{{- $address := index $addresses .Address }}
{{- if not $address }}
{{- template "address" (sprig_dict "cache" $addresses "edges" $edges "address" .Address) }}
{{- $address = index $addresses .Address }}
{{- end }}
{{- if @UNUSABLE@ }}{{ $why = "not healthy" }}{{ if eq .Status "maintenance" }}{{ $why = "in maintenance" }}{{ end }}
{{- else if eq $address "-" }}{{ $why = "the address must be a unicast IPv4 or IPv6 address@LOOPBACK_TEXT@" }}
{{- else if or (lt .Port 1) (gt .Port 65535) }}{{ $why = "the port must be from 1 to 65535" }}
@CLOSED@
{{- else if and (index $edges .Address) (@EDGE_PORTS@) }}{{ $why = "this address and port belong to an edge itself" }}
{{- else if ne $consul 1 }}
@WARNING_ZERO@
{{- if gt $consul 65535 }}{{ $consul = 65535 }}{{ end }}
{{- if gt $consul 0 }}{{ $weight = multiply 100 $consul }}{{ end }}
{{- end }}
{{- if not $why }}
{{- with index .ServiceMeta "edge_weight" }}
{{- if not (regexMatch @PERCENT@ .) }}{{ $why = "meta edge_weight must be an integer from 0 to 100" }}
{{- else if eq . "0" }}{{ $why = "edge_weight is 0" }}
{{- else }}{{ $weight = divide 100 (multiply $weight (parseInt .)) }}
{{- end }}
{{- end }}
{{- end }}
{{- $server := printf "%s:%d" $address .Port }}"""


def _is_edge(settings: dict[str, t.Any]) -> str:
    """A condition that is true when $to is an address of an edge; nothing where none is known."""
    listen = (*settings["listen_addresses"], *settings["internal"]["listen_addresses"])
    known = (*settings["edge_addresses"], *listen)
    own = dict.fromkeys(address for address in known if not ipaddress.ip_address(address).is_unspecified)
    ipv4 = " ".join(f'"{address}"' for address in own if ":" not in address)
    tests = [f"(eq $to {ipv4})"] if ipv4 else []
    tests += [f"(regexMatch {go_string(go_ipv6_spellings(address))} $to)" for address in own if ":" in address]
    if settings["allow_loopback"] and not settings["listen_addresses"]:
        tests += ['(sprig_hasPrefix "127." $to)', '(eq $to "[::1]")']
    return f"or {' '.join(tests)}" if tests else ""


def reserved_ports(settings: dict[str, t.Any]) -> list[int]:
    """The ports of the edge node that no service gets."""
    ports = {*settings["reserved_ports"], settings["http_port"], settings["tls_port"]}
    if settings["internal"]["listen_addresses"]:
        ports.add(settings["internal"]["http_port"])
    return sorted(ports)


def instance_check(settings: dict[str, t.Any], claimed: str = "") -> str:
    """The check of the instance that is the dot. Ports in the map ``claimed`` are an edge's own as well."""
    warning = settings["accept_warning"]
    closed = " ".join(str(port) for port in settings["backend_reserved_ports"])
    return fill(
        _INSTANCE,
        warning='{{- if eq .Status "warning" }}{{ $consul = .Weights.Warning }}{{ end }}' if warning else "",
        warning_zero='{{- if and (le $consul 0) (eq .Status "warning") }}{{ $why = "warns and Weights.Warning is 0" }}{{ end }}' if warning else "",
        unusable='and (ne .Status "passing") (ne .Status "warning")' if warning else 'ne .Status "passing"',
        closed=f'{{{{- else if eq .Port {closed} }}}}{{{{ $why = "the port is in backend_reserved_ports" }}}}' if closed else "",
        edge_ports=f"{'or (' if claimed else ''}eq .Port {' '.join(map(str, reserved_ports(settings)))}"
        + (f') (index {claimed} (printf "%d" .Port))' if claimed else ""),
        percent=go_string(PERCENT),
        loopback_text="" if settings["allow_loopback"] else ", and not loopback",
    )


# Health beside the weights, where instances that warn get traffic too: which servers do. Of two instances at one place, the one that is taken counts.
_WARNED = """
{{- $_ := sprig_set $warned (printf "%s %s %s" @KIND@ $name $server) (eq .Status "warning") }}"""
_WARNS = """
{{- $warns := sprig_dict }}
{{- range $server, $_ := $shown }}
{{- if index $warned (printf "%s %s %s" @KIND@ $name $server) }}{{ $_ := sprig_set $warns $server true }}{{ end }}
{{- end }}
{{- if $warns }}{{ $_ := sprig_set $report "warns" (sprig_merge (or (index $report "warns") (sprig_dict)) $warns) }}{{ end }}"""


def warned(settings: dict[str, t.Any], kind: str) -> str:
    """Notes whether the instance that is the dot, and is taken, warns. The kind is an expression for what keeps one exposure of a service from another."""
    return fill(_WARNED, kind=kind) if settings["accept_warning"] else ""


def warns(settings: dict[str, t.Any], kind: str) -> str:
    """Adds those of $shown that warn to $report."""
    return fill(_WARNS, kind=kind) if settings["accept_warning"] else ""


# One more instance with the version that it says it has, in the map $versions. Versions are few: each distinct one is looked at once.
_VERSION = r"""
{{- with index .ServiceMeta "version" }}
{{- $kept := index $checked_versions . }}
{{- if not $kept }}
{{- $kept = "-" }}{{ if and (le (len .) 40) (regexMatch @VERSION@ .) }}{{ $kept = "+" }}{{ end }}
{{- $_ := sprig_set $checked_versions . $kept }}
{{- end }}
{{- if eq $kept "+" }}
{{- $seen := index $versions . }}
{{- if $seen }}{{ $_ := sprig_set $versions . (add 1 $seen) }}
{{- else if lt (len $versions) 8 }}{{ $_ := sprig_set $versions . 1 }}
{{- end }}
{{- end }}
{{- end }}"""
VERSION_COUNT = _VERSION.replace("@VERSION@", f"`{VERSION}`")

# The servers of one upstream, from a map of address to weight. Equal weights are left out, others are divided by what they have in
# common (of 100): nginx raises a server's weight step by step after a failure, so small numbers recover sooner.
_SERVERS = r"""
{{- define "weighted servers" }}
{{- $low := 0 }}{{ $high := 0 }}{{ $by := 1 }}
{{- range .servers }}{{ if or (eq $low 0) (lt . $low) }}{{ $low = . }}{{ end }}{{ if gt . $high }}{{ $high = . }}{{ end }}{{ end }}
{{- if ne $low $high }}
{{- range $common := sprig_list 100 50 25 20 10 5 4 2 }}
{{- if eq $by 1 }}
{{- $by = $common }}{{ range $.servers }}{{ if modulo $common . }}{{ $by = 1 }}{{ end }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $server, $weight := .servers }}
    server {{ $server }}{{ if ne $low $high }} weight={{ divide $by $weight }}{{ end }} max_fails=@MAX_FAILS@ fail_timeout=@FAIL_TIMEOUT@{{ $.more }};
{{- end }}
{{- end }}
{{- define "some" }}
{{- $some := sprig_dict }}
{{- range $server, $weight := . }}{{ if lt (len $some) 20 }}{{ $_ := sprig_set $some $server $weight }}{{ end }}{{ end }}
{{- scratch.Set "some" $some }}
{{- end }}"""
_UPSTREAM_SERVERS = r"""
{{- if $mixed }}{{ template "weighted servers" (sprig_dict "servers" @MAP@ "more" "@MORE@") }}
{{- else }}
{{- range $server, $_ := @MAP@ }}
    server {{ $server }} max_fails=@MAX_FAILS@ fail_timeout=@FAIL_TIMEOUT@@MORE@;
{{- end }}
{{- end }}"""


def upstream_servers(variable: str, settings: dict[str, t.Any], more: str = "") -> str:
    """The server lines of an upstream from a map of address to weight; reads $mixed."""
    return fill(_UPSTREAM_SERVERS, map=variable, more=more, max_fails=settings["max_fails"], fail_timeout=settings["fail_timeout"])


_SPARE_REPORT = r"""
{{- if $spares_here }}
{{- $shown = $spares_here }}
{{- if gt (len $spares_here) 20 }}{{ template "some" $spares_here }}{{ $shown = scratch.Get "some" }}{{ end }}
{{- $_ := sprig_set $report "backups" (len $spares_here) }}
{{- $_ := sprig_set $report "backup_servers" $shown }}
@WARNS@
{{- end }}"""


def spare_report(settings: dict[str, t.Any], kind: str) -> str:
    """Adds the servers that are used when no other answers, $spares_here, to $report; leaves $shown changed."""
    return fill(_SPARE_REPORT, warns=warns(settings, kind)) if settings["remote_services"] else ""


def zone_size(count: str) -> str:
    """Memory for so many servers: nginx puts some 50 into 64k."""
    return f"{{{{ if lt {count} 32 }}}}64{{{{ else }}}}{{{{ multiply 64 (add 1 (divide 32 {count})) }}}}{{{{ end }}}}k"


def common_defines(side: str, settings: dict[str, t.Any]) -> str:
    """The named templates that both sides use, and what they keep during one rendering."""
    loopback = fill(_ADDRESS_LOOPBACK, ipv4_loopback=go_string(IPV4_LOOPBACK)) if settings["allow_loopback"] else ""
    edge = _is_edge(settings)
    return "".join(
        [
            '\n{{- scratch.Set "skips" 0 }}\n{{- $checked_versions := sprig_dict }}',
            "\n{{- $warned := sprig_dict }}" if settings["accept_warning"] else "",
            fill(
                _SKIP,
                side=side,
                max_reports=settings["max_reports"],
                skip_scopes="".join(fill(_SKIP_SCOPE, side=side, skip=scope.skip, report=scope.report) for scope in scopes(settings).values()),
            ),
            fill(_ADDRESS, ipv4=go_string(IPV4), ipv6=go_string(IPV6), loopback=loopback, edges=fill(_ADDRESS_EDGE, edge=edge) if edge else ""),
            _MESH,
            fill(_SERVERS, max_fails=settings["max_fails"], fail_timeout=settings["fail_timeout"]),
            _remote_defines(side, settings),
            _looks(side, settings),
        ]
    )


def without_blank_lines(text: str) -> str:
    """The text without the empty lines that unused building blocks leave behind."""
    return "\n".join(line for line in text.split("\n") if line.strip())
