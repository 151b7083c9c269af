# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service meta that the edge reads, and the warnings about meta that has no effect.

Private to the collection. No Ansible import.
"""

from __future__ import annotations

import typing as t

from .gotemplate import TRUE, Scope, all_services, fill, go_string
from .schema import check_edge

# Meta key -> what an instance needs for it to have an effect: a tag of that kind, and for "share" meta edge_canary too.
META = {
    "edge_canary": "http",
    "edge_canary_share": "share",
    "edge_https": "https",
    "edge_keepalive": "http",
    "edge_port": "tcp",
    "edge_proxy_protocol": "tcp",
    "edge_weight": "any",
}

_DEFINES = r"""
{{- define "meta class" }}
{{- $class := "-" }}{{ if regexMatch `(?i)\Aedge[_-]` .item }}{{ $class = "unknown" }}{{ end }}
{{- $_ := sprig_set .classes .item $class }}
{{- end }}
{{- $classes := sprig_dict @CLASSES@ }}
{{- $warned_of := sprig_dict }}"""

# The instance that is the dot: one warning for each key of the service that has no effect. Each distinct key is looked
# at once.
_WORDS = r"""
{{- $labelled := . }}
{{- range $item, $value := .ServiceMeta }}
{{- $class := index $classes $item }}
{{- if not $class }}
{{- template "meta class" (sprig_dict "classes" $classes "item" $item) }}
{{- $class = index $classes $item }}
{{- end }}
{{- if ne $class "-" }}
{{- $word := "" }}
{{- if eq $class "unknown" }}{{ $word = "is not known; known are @KNOWN@" }}
{{- else if not $value }}{{ $word = "is empty and has no effect" }}
{{- else if eq $class "any" }}
{{- else if eq $class "tcp" }}{{ if not (@TCP@) }}{{ $word = "has an effect with tag @TCP_TAGS@ only" }}{{ end }}
{{- else if eq $class "https" }}{{ if not (@HTTPS@) }}{{ $word = "has an effect with tag @HTTPS_TAGS@ only" }}{{ end }}
{{- else if not (@HTTP@) }}{{ $word = "has an effect with tag @HTTP_TAGS@ only" }}
{{- else if and (eq $class "share") (not (regexMatch @TRUE@ (print (index $labelled.ServiceMeta "edge_canary")))) }}
{{- $word = "has an effect with meta edge_canary only" }}
{{- end }}
{{- if $word }}
{{- $word = printf "meta %s %s" (executeTemplate "plain" $item) $word }}
{{- if not (index $warned_of (printf "%s %s" $name $word)) }}
{{- $_ := sprig_set $warned_of (printf "%s %s" $name $word) true }}
@WARNING@
{{- end }}
{{- end }}
{{- end }}
{{- end }}"""
# Instances that the other side looks at are its own to warn of.
_OTHERS = r"""
{{- if not (@TAGGED@) }}@WORDS@
{{- end }}"""

_WARNING = r"""
{{- template "skip" (sprig_dict "kind" "warning" "side" "@SIDE@"@REPORT@ "service" $name "reason" @REASON@) }}"""

_INTERNAL_OFF = r"""
{{- range @SERVICES@ }}
{{- if .Tags | contains "@TAG@" }}
{{- template "skip service" (sprig_dict "service" .Name
      "reason" "the tag @TAG@ has no effect, because internal.listen_addresses is empty") }}
{{- end }}
{{- end }}"""

_UNSHARED = r"""
{{- $with_tag := sprig_dict }}
{{- range @SERVICES@ }}{{ if @TAGGED@ }}{{ $_ := sprig_set $with_tag (toLower .Name) true }}{{ end }}{{ end }}
{{- range $name := sprig_list @NAMES@ }}
{{- if not (index $with_tag (toLower $name)) }}
@WARNING@
{{- end }}
{{- end }}"""


def warning(side: str, scope: Scope | None, reason: str) -> str:
    """Return a warning about $name in the report; the reason is an expression."""
    return fill(_WARNING, side=side, report=scope.report if scope else "", reason=reason)


def _tags(settings: dict[str, t.Any]) -> dict[str, tuple[str, ...]]:
    """Return the tags that a key needs, by the kind that it has in ``META``."""
    internal = settings["internal"] if settings["internal"]["listen_addresses"] else {}
    tags = {
        "http": (settings["http_tag"], internal.get("http_tag")),
        "https": (settings["http_tag"],),
        "tcp": (settings["tcp_tag"], internal.get("tcp_tag")),
        "tls": (settings["tls_tag"],),
    }
    return {kind: tuple(dict.fromkeys(tag for tag in found if tag)) for kind, found in tags.items()}


def edge_meta(edge: t.Any) -> dict[str, list[str]]:
    """Return the meta keys that an edge reads, each with the tags with which it has an effect; raises ``EdgeError``."""
    tags = _tags(check_edge(edge))
    every = list(dict.fromkeys(tag for found in tags.values() for tag in found))
    return {key: list(tags.get("http" if kind == "share" else kind, every)) for key, kind in META.items()}


def _tagged(tags: t.Iterable[str], instance: str = "") -> str:
    """Return a condition that is true when an instance or service has one of the tags."""
    return " ".join(["or", *(f'({instance}.Tags | contains "{tag}")' for tag in tags)])


def meta_defines() -> str:
    """Return what :func:`meta_words` needs during one rendering."""
    return fill(_DEFINES, classes=" ".join(f'"{key}" "{kind}"' for key, kind in META.items()))


def meta_words(settings: dict[str, t.Any], side: str, scope: Scope) -> str:
    """Return what warns of meta of the instance that is the dot, an instance of $name, that has no effect."""
    tags = _tags(settings)
    words = fill(
        _WORDS,
        known=", ".join(sorted(META)),
        true=go_string(TRUE),
        warning=warning(side, scope, "$word"),
        **{kind: _tagged(tags[kind], "$labelled") for kind in ("http", "https", "tcp")},
        **{f"{kind}_tags": " or ".join(tags[kind]) for kind in ("http", "https", "tcp")},
    )
    if side == "http":
        return words
    # Without a public side, the http side only looks at those for callers inside.
    looked_at = tags["http"] if settings["public"] else (settings["internal"]["http_tag"],)
    return fill(_OTHERS, tagged=_tagged(looked_at), words=words)


def internal_off(settings: dict[str, t.Any], key: str) -> str:
    """Return what reports services with a tag for callers inside, where the internal side is off."""
    tag = settings["internal"][key]
    if settings["internal"]["listen_addresses"] or tag == settings[key]:
        return ""
    return fill(_INTERNAL_OFF, services=all_services(settings), tag=tag)


def unshared_unknown(settings: dict[str, t.Any]) -> str:
    """Return what warns of entries of unshared_services that no HTTP service has as its name."""
    if not settings["unshared_services"]:
        return ""
    return fill(
        _UNSHARED,
        services=all_services(settings),
        tagged=_tagged(_tags(settings)["http"]),
        names=" ".join(go_string(name) for name in settings["unshared_services"]),
        warning=warning("http", None, '"unshared_services has this name, and no service with an HTTP tag has it"'),
    )
