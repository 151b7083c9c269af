# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every reason for which the engine refuses or questions what is written on a container. Pure.

A refused value has no effect. A warning leaves the value in effect, or says that it has none where that harms nothing.
"""

from __future__ import annotations

from registrator.model import Refusal

REASONS = {
    # The name of the label or variable.
    "label-count": "more than {most} labels and variables begin with SERVICE_; the container is not registered",
    "port-number": "{port} is neither a port from 1 to 65535 nor a range such as 9300-9400, without leading zeros",
    "port-unknown": "the container has no port {port}; the port inside of it counts, not the published one{hint}",
    "port-count": "at most {most} ports of one container are registered; those from {first} on are not",
    "port-not-registered": "port {port} is not registered: {why}",
    "not-registered": "nothing of this container is registered: {why}",
    "protocol-place": "the protocol follows the port: write SERVICE_<port>_{protocol}_{name}",
    "prefix-case": "{text} has no effect: write the name in upper case, {right}",
    "same-key": "{text} and {other} mean the same and have different values; {other} counts",
    "typo": "{text} is meta data only; was SERVICE_{right} meant?",
    # Any value.
    "quotes": "the quotes around the value are taken off; in a list of Compose they belong around the whole entry",
    # Names and ids.
    "name-characters": "{text} cannot be a service name: up to 128 letters, digits, '-', '_', '.', and no '-' or '.' at an end",
    "name-reserved": "{text} is reserved for the platform; choose another SERVICE_NAME",
    "name-spelling": "{text} differs from the protected service {other} in case only, which DNS does not distinguish",
    "name-look": "{text} looks like {other}; choose a SERVICE_NAME that no one can take for it",
    "name-punycode": "{text} is shown with other letters than it has (xn--); write the name in letters and digits",
    "name-secret": "it looks like a secret ({what}), and everybody can read the catalogue",
    "name-case": "{text} has upper-case letters, which DNS does not distinguish; write it in lower case",
    "name-dns": "{text} cannot be resolved by DNS: letters, digits and '-' only, at most 63",
    "name-missing": "the image {image} has no name, and nor have Compose, swarm or the container one; set SERVICE_NAME",
    "id-characters": "{text} cannot be a service id: letters, digits and . _ : @ - only, at most 255",
    "id-secret": "it looks like a secret ({what}), and everybody can read the catalogue; the default id is used",
    "id-form": "{text} begins like the ids of containers without SERVICE_ID, which no other may take",
    "id-taken": "the id {text}, or that of one of its checks, is already used by container {other}",
    "id-twice": "the id {text}, or that of one of its checks, is already used by another port of this container",
    "id-foreign": "the id {text}, or that of one of its checks, belongs to a registration of another program",
    # Tags.
    "tag-list": "brackets and quotes are taken off: tags are separated by commas, without a list around them",
    "tag-separator": "{text} is one tag; tags are separated by commas",
    "tag-case": "tags are compared exactly: {text} is not {other}",
    "tag-template": "{text} is registered as it is: templates are not supported",
    "tag-udp": "the tag udp marks udp ports, and edges serve no instance that has it; this is a {protocol} port",
    "tag-characters": "{text} has control characters",
    "tag-length": "a tag of {length} bytes is too long: at most {most}",
    "tag-count": "all tags of a service have {most} bytes at most; the last ones are left out",
    "tag-secret": "a tag looks like a secret ({what}), and everybody can read the catalogue",
    # Meta data.
    "meta-key": "a meta key may hold letters, digits, - and _ only, at most 128 of them",
    "meta-reserved": "this meta key is reserved",
    "meta-secret-key": "the name says that this is a secret ({what}), and everybody can read the catalogue",
    "meta-secret-value": "the value looks like a secret ({what}), and everybody can read the catalogue",
    "meta-environment": "meta data is not taken from the environment here (registrator_environment_meta); set a label",
    "meta-length": "the value has more than {most} bytes",
    "meta-characters": "the value has control characters",
    "meta-unknown": "{text} is meta data only; readers of the catalogue know {known}",
    "meta-tags": "{text} has an effect on a service with the tag {tags} only, and no service of this container has it",
    "meta-empty": "{text} is empty and has no effect",
    "meta-count": "Consul accepts at most {most} meta pairs",
    # Weight, warm-up, address.
    "weight": "{text} is not a whole number from 0 to 100",
    "warmup": "{text} is not a duration such as 10s or 1m30s",
    "address-value": "{text} is meta data only; the value with an effect is container, or container/<network>",
    "address-host": "the container shares the host's network and has no other address",
    "address-none": "the container has no address of its own{network}; nothing is registered for this port",
    # Checks. Where the check that was asked for cannot be made, the service stays critical.
    "check-unknown": "this check option does not exist",
    "check-unsupported": "this kind of check does not exist here; use SERVICE_CHECK_HTTP=/path, _HTTPS, _TCP, _GRPC or _TTL",
    "check-path": "a URL path has 1 to 1024 printable ASCII characters and no blank",
    "check-url": "this is a URL and not a path; write {right}: address and port are always those of the service",
    "check-url-path": "a URL of this port itself: only its path {right} is used",
    "check-word": "{text} is not a path; write / or the path to ask for",
    "check-secret": "it looks like a secret ({what}), and everybody can read the definitions of checks",
    "check-port": "{text} is not true or false; the port that is checked is always that of the service",
    "check-grpc": "{text} is not the name of a gRPC service: letters, digits and . _ - / only, at most 255",
    "check-method": "{text} is not GET or HEAD, the only methods that change nothing",
    "check-header": 'the header is neither \'Name: value\' nor JSON such as {{"Name": ["value"]}}',
    "check-header-secret": "the header {text} holds a secret, and everybody can read the definitions of checks",
    "check-ttl": "{text} is not a duration such as 10s or 1m30s",
    "check-duration": "{text} is not a duration such as 10s or 1m30s",
    "check-status": "{text} is none of passing, warning, critical",
    "check-script": "checks that run a program on the host are not allowed here (registrator_allow_scripts)",
    "check-second": "the container also has check_{asked}, which comes first",
    "check-option": "this option has no effect on a check_{asked}",
    "check-empty": "the value is empty, so no check is made; write false to want none",
    "check-option-empty": "the value is empty and has no effect",
    "check-alone": "without a kind of check (http, https, tcp, grpc, ttl) this option has no effect",
    "check-udp": "a check_{asked} cannot ask a {protocol} port",
    # The engine.
    "engine": "the engine cannot read this container: {error}",
}


def refusal(kind: str, key: str, **values: object) -> Refusal:
    """Return one refusal or warning about ``key``, with the text of its kind."""
    return Refusal(key[:140], REASONS[kind].format(**values), kind)
