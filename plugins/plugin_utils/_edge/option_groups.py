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
            "What the share is a share of.",
            "With V(request) every request is drawn anew, so the share is exact also when all clients come from one address.",
            "With V(client) a client address always gets the same answer as long as the share stays.",
        ),
        default="request",
        choices=("request", "client"),
    ),
    Option(
        "header",
        "header",
        ("Request header that overrules the share. Its value V(always) asks for a canary, V(never) for a stable instance. An empty string turns it off.",),
        default="X-Canary",
    ),
    Option(
        "cookie",
        "cookie",
        ("Cookie that overrules the share, with the values of the header; the header wins over the cookie. An empty string turns it off.",),
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
            "Host names directly below O(_input.domain) that the certificate covers. V(*) as the first label stands for every name there.",
            "An exact name wins over V(*). An empty list means V(*).",
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
            "Certificates with which the edge ends TLS on O(_input.tls_port) for HTTP services. An empty list means that it ends none.",
            "The names of services with O(_input.tls_tag) are passed through untouched all the same.",
        ),
        default=(),
        elements="dict",
        suboptions=_CERTIFICATE,
    ),
    Option(
        "https",
        "choice",
        (
            "How an HTTP service is reached whose host name a certificate covers and whose service meta C(edge_https) does not say otherwise.",
            "With V(redirect) over HTTPS, and O(_input.http_port) answers with a redirect to it. With V(both) over HTTP and HTTPS. With V(off) over HTTP.",
        ),
        default="redirect",
        choices=("redirect", "both", "off"),
    ),
    Option(
        "profile",
        "choice",
        (
            "Which clients are understood, as in Mozilla's Server Side TLS guidelines.",
            "V(intermediate) takes TLS 1.2 with authenticated ciphers and forward secrecy, and TLS 1.3. V(modern) takes TLS 1.3 only.",
        ),
        default="intermediate",
        choices=("intermediate", "modern"),
    ),
    Option(
        "http2",
        "choice",
        (
            "How HTTP/2 is switched on. V(listen) is understood by every nginx; from 1.25.1 on it warns once for each server, and V(directive) does not.",
            (
                "V(legacy) is V(listen) for nginx before 1.19.7, such as that of Debian 11 and Ubuntu 22.04, "
                "which has a limit of its own, 4 kB, for header fields over HTTP/2."
            ),
            "V(off) leaves clients with HTTP/1.1.",
        ),
        default="listen",
        choices=("listen", "directive", "legacy", "off"),
    ),
    Option(
        "hsts_max_age",
        "int",
        (
            "Seconds for which a browser that was there once uses HTTPS only (C(Strict-Transport-Security)). V(0) sends no such header.",
            "Browsers can't be talked out of it before that time is over.",
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
                "Shorter than nginx's 75 seconds, because such a connection counts for O(_input.connection_limit) and takes three of a worker's: "
                "with a limit of 2000 and 20 seconds, 100 browsers behind one address may come anew every second."
            ),
        ),
        default="20s",
    ),
    Option("certificate_directory", "directory", ("Directory of the certificates on the edge node.",), default="/etc/nginx-edge/tls"),
    Option(
        "socket_directory",
        "directory",
        ("Directory for the unix sockets between the TLS port and the servers that end TLS. It is the operator's to keep others out of it.",),
        default="/run/nginx-edge/tls",
    ),
)

INTERNAL = (
    Option(
        "listen_addresses",
        "list",
        (
            "Addresses of the node at which callers inside reach services, such as that of Docker's bridge. An empty list means no internal side.",
            "They must be the node's alone and the same on every node. What listens there is not reached at any other address.",
        ),
        default=(),
        elements="own_ip",
    ),
    Option(
        "domain",
        "domain",
        (
            "Domain of the services on the internal side. The service C(web) is reached as C(web.) followed by this domain.",
            "Left out, it is C(internal.) followed by O(_input.domain). The operator's DNS has a wildcard record of it to O(_input.internal.listen_addresses).",
        ),
    ),
    Option("http_port", "port", ("Port of the HTTP services on the internal side.",), default=80),
    Option(
        "http_tag",
        "tag",
        ("Tag of an instance that is to be reached inside over HTTP. It may be O(_input.http_tag), so that whatever is exposed is reached inside as well.",),
        default="http-internal",
    ),
    Option(
        "tcp_tag",
        "tag",
        ("Tag of an instance that is to be reached inside on a TCP port of its own. It may be O(_input.tcp_tag).",),
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
            "Where callers inside come from: the networks of the containers, and the node itself. Others are refused, should they find a way to the address.",
            "The default holds the networks that Docker takes first.",
        ),
        default=("127.0.0.0/8", "172.16.0.0/12", "::1/128"),
        elements="network",
    ),
)

REMOTE_SERVICE = (
    Option("name", "service", ("Name of the service, as the catalogue of the other data centre has it.",), required=True),
    Option("datacenter", "datacenter", ("Name of the other data centre. The one of the edge node must be joined with it.",), required=True),
    Option(
        "use",
        "choice",
        (
            "When the instances there get traffic. With V(backup) only while no instance of the service here answers, which each request finds out anew.",
            "With V(always) like those here.",
        ),
        default="backup",
        choices=("backup", "always"),
    ),
)
