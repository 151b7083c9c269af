# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the edge description that lie in dictionaries: canary, tls, internal, remote_services.

Private to the collection, pure. The values that a kind allows are in ``value_checks``.
"""

from __future__ import annotations

from .option import Option

CANARY = (
    Option(
        "share",
        "int",
        ("Percentage of the requests that go to the canary instances of a service whose canaries carry no service meta C(edge_canary_share).",),
        default=10,
        minimum=0,
        maximum=100,
    ),
    Option(
        "by",
        "choice",
        (
            "What the share applies to.",
            "With V(request) the choice is made for each request, so the share is exact even if all clients have one address.",
            "With V(client) a client address always gets the same answer as long as the share stays.",
        ),
        default="request",
        choices=("request", "client"),
    ),
    Option(
        "header",
        "header",
        ("Request header that overrides the share. Its value V(always) asks for a canary, V(never) for a stable instance. An empty string turns it off.",),
        default="X-Canary",
    ),
    Option(
        "cookie",
        "cookie",
        ("Cookie that overrides the share, with the values of the header; the header takes precedence. An empty string turns it off.",),
        default="canary",
    ),
)

_CERTIFICATE = (
    Option(
        "name",
        "certificate",
        ("Name of the certificate. The file with its chain and its key, as PEM, is C(NAME.pem) in O(_input.tls.certificate_directory).",),
        required=True,
    ),
    Option(
        "host_names",
        "list",
        (
            "Host names directly below O(_input.domain) that the certificate covers. V(*) as the first label matches every name there.",
            "An exact name takes precedence over V(*). An empty list means V(*).",
        ),
        default=(),
        elements="certificate_host",
    ),
)

TLS = (
    Option(
        "certificates",
        "list",
        (
            "Certificates with which the edge terminates TLS on O(_input.tls_port) for HTTP services. With an empty list, it terminates none.",
            "Connections to services with O(_input.tls_tag) are always passed through.",
        ),
        default=(),
        elements="dict",
        suboptions=_CERTIFICATE,
    ),
    Option(
        "https",
        "choice",
        (
            "How an HTTP service is reached if a certificate covers its host name. The service meta C(edge_https) overrides it.",
            "With V(redirect) over HTTPS, and O(_input.http_port) answers with a redirect to it. With V(both) over HTTP and HTTPS. With V(off) over HTTP.",
        ),
        default="redirect",
        choices=("redirect", "both", "off"),
    ),
    Option(
        "profile",
        "choice",
        (
            "Which clients are supported, as in Mozilla's Server Side TLS guidelines.",
            "V(intermediate) accepts TLS 1.2 with authenticated ciphers and forward secrecy, and TLS 1.3. V(modern) accepts TLS 1.3 only.",
        ),
        default="intermediate",
        choices=("intermediate", "modern"),
    ),
    Option(
        "http2",
        "choice",
        (
            "How HTTP/2 is enabled. V(listen) works with every nginx; since 1.25.1 nginx warns about it once for each server, but not about V(directive).",
            ("V(legacy) is V(listen) for nginx before 1.19.7, such as that of Debian 11 and Ubuntu 22.04, which limits header fields over HTTP/2 to 4 kB."),
            "V(off) disables HTTP/2.",
        ),
        default="listen",
        choices=("listen", "directive", "legacy", "off"),
    ),
    Option(
        "hsts_max_age",
        "int",
        (
            "Seconds for which a browser uses only HTTPS after a visit (C(Strict-Transport-Security)). V(0) sends no such header.",
            "It cannot be revoked in browsers before that time is over.",
        ),
        default=0,
        minimum=0,
        maximum=63072000,
    ),
    Option(
        "keepalive_timeout",
        "duration",
        (
            "How long a client's connection over HTTPS may be idle before the edge closes it.",
            (
                "Shorter than nginx's 75 seconds, because such a connection counts for O(_input.connection_limit) and uses three connections of a worker: "
                "with a limit of 2000 and 20 seconds, 100 new browsers behind one address are possible every second."
            ),
        ),
        default="20s",
    ),
    Option("certificate_directory", "directory", ("Directory of the certificates on the edge node.",), default="/etc/nginx-edge/tls"),
    Option(
        "socket_directory",
        "directory",
        ("Directory for the unix sockets between the TLS port and the servers that terminate TLS. The operator must deny other users access to it.",),
        default="/run/nginx-edge/tls",
    ),
)

INTERNAL = (
    Option(
        "listen_addresses",
        "list",
        (
            "Addresses of the node at which internal callers reach services, such as that of Docker's bridge. With an empty list, there is no internal side.",
            "They must be local to the node and the same on every node. The internal listeners are not reached at any other address.",
        ),
        default=(),
        elements="own_ip",
    ),
    Option(
        "domain",
        "domain",
        (
            "Domain of the services on the internal side. The service C(web) is reached as C(web.) followed by this domain.",
            "The default is C(internal.) followed by O(_input.domain).",
            "The operator's DNS needs a wildcard record for it that points to O(_input.internal.listen_addresses).",
        ),
    ),
    Option("http_port", "port", ("Port of the HTTP services on the internal side.",), default=80),
    Option(
        "http_tag",
        "tag",
        (
            "Tag of instances that are exposed to internal callers over HTTP.",
            "It may be O(_input.http_tag), so that all public services are available internally as well.",
        ),
        default="http-internal",
    ),
    Option(
        "tcp_tag",
        "tag",
        ("Tag of instances that are exposed to internal callers on a dedicated TCP port. It may be O(_input.tcp_tag).",),
        default="tcp-internal",
    ),
    Option(
        "tcp_ports",
        "list",
        ("Ports that services with O(_input.internal.tcp_tag) may take: single ports and ranges such as V(9000-9999).",),
        default=("1024-65535",),
        elements="port_range",
    ),
    Option(
        "allowed_networks",
        "list",
        (
            "Networks of internal callers: the networks of the containers, and the node itself. Callers from other networks are refused.",
            "The default contains the networks that Docker uses first.",
        ),
        default=("127.0.0.0/8", "172.16.0.0/12", "::1/128"),
        elements="network",
    ),
)

REMOTE_SERVICE = (
    Option("name", "service", ("Name of the service in the catalogue of the other data centre.",), required=True),
    Option("datacenter", "datacenter", ("Name of the other data centre, with which the data centre of the edge node must be joined.",), required=True),
    Option(
        "use",
        "choice",
        (
            "When the instances there get traffic. With V(backup), only if no local instance answers, which is checked with each request.",
            "With V(always), like local instances.",
        ),
        default="backup",
        choices=("backup", "always"),
    ),
)
