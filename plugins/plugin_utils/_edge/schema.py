# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge description: the one declared schema of it, and its check.

Private to the collection. No Ansible import: both filters, their documentation and the unit tests read the same table.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import typing as t
from dataclasses import dataclass, field


class EdgeError(ValueError):
    """The edge description is wrong. The message holds every error of it, not only the first."""

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors
        super().__init__("; ".join(errors))


class _Bad(ValueError):
    """One value is not allowed; the text says what is."""


@dataclass(frozen=True)
class Option:
    """One key of the edge description."""

    name: str
    kind: str
    description: tuple[str, ...]
    default: t.Any = None
    required: bool = False
    elements: str = ""
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()
    suboptions: tuple[Option, ...] = field(default=())

    @property
    def ansible_type(self) -> str:
        """The type as ansible-doc names it."""
        return _ANSIBLE_TYPES.get(self.kind, "str")

    @property
    def ansible_elements(self) -> str:
        """The type of a list's elements as ansible-doc names it."""
        return _ANSIBLE_TYPES.get(self.elements, "str")


_ANSIBLE_TYPES = {"bool": "bool", "int": "int", "port": "int", "list": "list", "dict": "dict"}

RETRY_CONDITIONS = ("error", "timeout", "invalid_header", "http_500", "http_502", "http_503", "http_504", "http_429")
# Request headers that the edge writes itself, or never passes on: they cannot be listed in cleared_headers.
OWN_HEADERS = (
    "Host",
    "Connection",
    "Upgrade",
    "HTTP2-Settings",
    "Proxy",
    "Content-Length",
    "Transfer-Encoding",
    "X-Real-IP",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Request-ID",
)
# Request headers by which a proxy, and not a client, states something. Applications believe them. Each group names who sends or
# reads them. Signed ones (JWT of an access proxy) are not here: an application that checks the signature believes no client.
CLEARED_HEADERS = (
    # The client's address. RFC 7239 and its forerunner; Apache mod_remoteip, HAProxy and load balancers of Zeus and Rackspace.
    "Forwarded",
    "X-Forwarded",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "Client-IP",
    # Akamai and Cloudflare, Fastly, Azure Front Door, Imperva.
    "True-Client-IP",
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "Fastly-Client-IP",
    "X-Azure-ClientIP",
    "Incap-Client-IP",
    # ingress-nginx, Envoy, the plug-in of WebLogic.
    "X-Original-Forwarded-For",
    "X-Envoy-External-Address",
    "WL-Proxy-Client-IP",
    "Proxy-Client-IP",
    # The URL that the client asked for. Traefik, Spring, Rails, Django, IIS and the plug-in of WebLogic.
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Scheme",
    "X-Forwarded-Protocol",
    "X-Url-Scheme",
    "X-Scheme",
    "Front-End-Https",
    "X-ARR-SSL",
    "WL-Proxy-SSL",
    # ingress-nginx, Symfony, Zend and IIS, WSGI applications.
    "X-Original-URL",
    "X-Original-URI",
    "X-Original-Host",
    "X-Original-Method",
    "X-Rewrite-URL",
    "X-Script-Name",
    "X-Host",
    "X-HTTP-Host-Override",
    # Forward authentication of Traefik, Caddy and oauth2-proxy; Envoy.
    "X-Forwarded-Uri",
    "X-Forwarded-Path",
    "X-Forwarded-Method",
    "X-Envoy-Original-Path",
    # Who has logged in. Apache and CGI, Authelia, the authenticating proxy of Kubernetes.
    "Remote-User",
    "Remote-Groups",
    "Remote-Email",
    "Remote-Name",
    "X-Remote-User",
    "X-Remote-Group",
    # oauth2-proxy, both forms.
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Preferred-Username",
    "X-Auth-Request-Access-Token",
    # Grafana, authentik, Azure App Service, Tailscale, SiteMinder.
    "X-WebAuth-User",
    "X-WebAuth-Groups",
    "X-Authentik-Username",
    "X-Authentik-Groups",
    "X-Authentik-Email",
    "X-MS-Client-Principal",
    "X-MS-Client-Principal-Name",
    "X-MS-Client-Principal-Id",
    "Tailscale-User-Login",
    "SM-User",
    # The client's certificate. Envoy, IIS with ARR, Azure and ASP.NET Core; nginx, HAProxy and Keycloak behind them.
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Tls-Client-Cert",
    "X-Forwarded-Tls-Client-Cert-Info",
    "X-ARR-ClientCert",
    "MS-ASPNETCORE-CLIENTCERT",
    "X-Client-Cert",
    "SSL-Client-Cert",
    "SSL-Client-Verify",
    "SSL-Client-Subject-DN",
    "X-SSL-Cert",
    "X-SSL-Client-Cert",
    "X-SSL-Client-Verify",
    "X-SSL-Client-DN",
    "X-SSL-Client-S-DN",
    "X-SSL-Client-CN",
    "X-SSL-Client-SHA1",
)
# What every node listens on: SSH, DNS, the Docker API, the edge's status page, registrator's metrics, and Consul's RPC, gossip, HTTP(S), gRPC and DNS.
PLATFORM_PORTS = (22, 53, 2375, 2376, 8098, 8099, 8300, 8301, 8302, 8500, 8501, 8502, 8503, 8600)
# The tag that the original registrator adds to an instance whose port is a UDP port.
UDP_TAG = "udp"

_CANARY = (
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

_TLS = (
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

_INTERNAL = (
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

_REMOTE_SERVICE = (
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

SCHEMA: tuple[Option, ...] = (
    Option(
        "domain",
        "domain",
        ("Domain of the exposed services. The service C(web) is reached as C(web.) followed by this domain.",),
        required=True,
    ),
    Option("public", "bool", ("Whether there is a public side. Without it, only O(_input.internal) is left, for a node that is no edge.",), default=True),
    Option("http_port", "port", ("Port on which HTTP services are exposed.",), default=80),
    Option(
        "tls_port",
        "port",
        ("Port of TLS, where the client names the service by SNI: passed through untouched, or ended by the edge with O(_input.tls.certificates).",),
        default=443,
    ),
    Option("http_tag", "tag", ("Tag of an instance that is to be exposed over HTTP.",), default="http"),
    Option("tcp_tag", "tag", ("Tag of an instance that is to be exposed on a TCP port of its own.",), default="tcp"),
    Option("tls_tag", "tag", ("Tag of an instance that is to be exposed on the TLS port by its name.",), default="tls"),
    Option(
        "listen_addresses",
        "list",
        ("Addresses of the edge node to listen on. An empty list means every IPv4 address, and every IPv6 address too with O(_input.ipv6).",),
        default=(),
        elements="ip",
    ),
    Option("ipv6", "bool", ("Whether to listen on every IPv6 address too. Has no effect when O(_input.listen_addresses) is set.",), default=False),
    Option(
        "host_names",
        "list",
        (
            "Host names that services may take, over HTTP and by SNI. V(*) stands for any part of the first label.",
            "An empty list means every name directly below O(_input.domain).",
        ),
        default=(),
        elements="host_pattern",
    ),
    Option(
        "reserved_host_names",
        "list",
        (
            "Host names below O(_input.domain) that no service gets, because the operator serves them. V(*) stands for any part of the first label.",
            "No service gets a name that only looks like one of them, either.",
        ),
        default=(),
        elements="host_pattern",
    ),
    Option(
        "tcp_ports",
        "list",
        ("Ports that services with O(_input.tcp_tag) may take: single ports and ranges such as V(9000-9999).",),
        default=("1024-65535",),
        elements="port_range",
    ),
    Option(
        "reserved_ports",
        "list",
        (
            "Ports of the edge node that the platform or the operator holds. They are never given to a service.",
            "O(_input.http_port) and O(_input.tls_port) are always reserved.",
        ),
        default=(),
        elements="port",
    ),
    Option(
        "backend_reserved_ports",
        "list",
        (
            (
                "Ports to which the edge never connects, at any address. A registration that names one of them is refused, "
                "so that no one can expose the node's own interfaces (SSH, DNS, the Docker API, Consul, status pages) by registering their address."
            ),
        ),
        default=PLATFORM_PORTS,
        elements="port",
    ),
    Option(
        "edge_addresses",
        "list",
        (
            (
                "Addresses of all edge nodes. An instance at one of them is refused when its port is one that an edge listens on or one of "
                "O(_input.reserved_ports): the edge would connect to itself, or expose what belongs to the node."
            ),
            "The addresses of O(_input.listen_addresses) and O(_input.internal.listen_addresses) always count; so does loopback where the edge listens on it.",
        ),
        default=(),
        elements="own_ip",
    ),
    Option(
        "unexposed_services",
        "list",
        (
            "Services that are never exposed, in whatever spelling and with whatever tags.",
            (
                "Sidecar proxies of Consul Connect need not be listed, nor gateways that C(consul connect envoy -register) registered. "
                "Other gateways cannot be told from services: the default has the names that Consul gives them, and those with other names belong here."
            ),
        ),
        default=("mesh-gateway", "terminating-gateway", "ingress-gateway"),
        elements="service",
    ),
    Option(
        "protected_services",
        "list",
        (
            "Services whose names nobody else gets in another spelling, even while they have no instance themselves.",
            "Nothing else that looks like one of them is exposed, such as C(bi11ing) or C(bil-ling) for C(billing).",
            (
                "Consul's ACLs distinguish upper and lower case, its catalogue and its DNS do not. A token that may not write C(billing) "
                "can register C(Billing), which has the same host name or port at an edge."
            ),
        ),
        default=(),
        elements="service",
    ),
    Option(
        "allow_loopback",
        "bool",
        ("Whether an instance may have a loopback address. That is the edge node itself, so it is refused outside of tests and single-node trials.",),
        default=False,
    ),
    Option(
        "accept_warning",
        "bool",
        ("Whether instances whose checks warn get traffic too, with Consul's C(Weights.Warning). By default only passing instances do.",),
        default=False,
    ),
    Option(
        "connect_timeout",
        "duration",
        (
            "How long a connection to one of several instances may take.",
            "Short, because a lost node answers nothing at all and another instance is waiting.",
        ),
        default="400ms",
    ),
    Option(
        "only_connect_timeout",
        "duration",
        (
            "How long a connection to the only instance of a service may take.",
            (
                "Longer than one second, after which a kernel sends a lost packet again: a lost packet, or an instance that accepts no "
                "connection for a moment, is a wait and not an error. On O(_input.tls_port), where there is one limit for all names, an only instance is "
                "tried up to three times instead."
            ),
        ),
        default="2s",
    ),
    Option(
        "read_timeout",
        "duration",
        ("How long an HTTP instance may be silent before the request fails. Also ends a WebSocket on which nothing is said for so long.",),
        default="60s",
    ),
    Option("send_timeout", "duration", ("How long an HTTP instance may take nothing of a request before the request fails.",), default="60s"),
    Option("idle_timeout", "duration", ("How long a TCP or TLS connection may be silent in both directions before it is closed.",), default="10m"),
    Option("preread_timeout", "duration", ("How long a client may take for the TLS hello that carries the name it wants.",), default="5s"),
    Option(
        "max_fails",
        "int",
        (
            "Failed attempts within O(_input.fail_timeout) after which an instance gets no traffic for that time. V(0) turns it off.",
            "More than one, because a lost packet is such an attempt and no reason to do without an instance.",
        ),
        default=3,
        minimum=0,
        maximum=100,
    ),
    Option("fail_timeout", "duration", ("The time that O(_input.max_fails) counts in, and that a failed instance is left alone.",), default="5s"),
    Option(
        "keepalive",
        "int",
        ("Idle connections that each worker keeps open to the instances of an HTTP service. V(0) turns reuse off.",),
        default=32,
        minimum=0,
        maximum=10000,
    ),
    Option(
        "keepalive_timeout",
        "duration",
        (
            "How long an idle connection to an instance is kept.",
            (
                "Shorter than the keep-alive time of common servers (gunicorn 2 seconds, Node and uvicorn 5, Tomcat 20), "
                "so that the edge closes first and no request meets a connection that is just being closed. "
                "A POST that does is answered with 502, because it is never sent twice."
            ),
        ),
        default="1s",
    ),
    Option("keepalive_requests", "int", ("Requests after which a connection to an instance is closed.",), default=1000, minimum=1, maximum=1000000),
    Option(
        "unshared_services",
        "list",
        (
            "HTTP services whose connections are never used for a second request, as with the service meta C(edge_keepalive=false).",
            (
                "For instances that tie state to the connection. "
                "A request with C(Authorization: NTLM) or C(Negotiate) always closes its connection, for every service."
            ),
        ),
        default=(),
        elements="service",
    ),
    Option(
        "next_upstream",
        "list",
        (
            "What makes the edge try another instance of an HTTP service. An empty list means never.",
            "A request that changes something (POST, LOCK, PATCH) is never sent twice.",
            (
                "Each condition listed here also counts for O(_input.max_fails). The status codes are therefore not in the default: "
                "one page that answers 503 would take its instance out of service."
            ),
        ),
        default=("error", "timeout"),
        elements="choice",
        choices=RETRY_CONDITIONS,
    ),
    Option(
        "next_upstream_tries",
        "int",
        (
            "Instances that are tried for one request or connection, the first one included.",
            "On O(_input.tls_port) at least three, because an only instance is tried that often there.",
        ),
        default=3,
        minimum=1,
        maximum=100,
    ),
    Option(
        "next_upstream_timeout",
        "duration",
        (
            "Time after which no further instance is tried. Keeps a slow request from being repeated.",
            "On O(_input.tls_port) at least three times O(_input.connect_timeout).",
        ),
        default="10s",
    ),
    Option(
        "request_limit",
        "int",
        (
            ("Requests of one client address that the edge works on at once, over all HTTP services; what is too much gets 429. V(0) sets no limit."),
            (
                "A client that sends requests slowly, or never reads the answers, cannot take the edge from the others. "
                "The default is more than a hospital behind one address has at once; connections without a request do not count."
            ),
        ),
        default=1000,
        minimum=0,
        maximum=1000000,
    ),
    Option(
        "connection_limit",
        "int",
        (
            (
                "Connections that one client address has open at once to TCP services and to the TLS port, all together; "
                "another one is closed. V(0) sets no limit."
            ),
            (
                "On the TLS port idle ones count, too, for as long as O(_input.tls.keepalive_timeout). "
                "C(nginx-edge-apply --status), the status page and the metrics show when a limit refuses clients."
            ),
        ),
        default=2000,
        minimum=0,
        maximum=1000000,
    ),
    Option(
        "unlimited_networks",
        "list",
        (
            (
                "Addresses and networks for which O(_input.request_limit), O(_input.connection_limit) and O(_input.rate_limit) do not count, "
                "such as a gateway behind which thousands of clients are."
            ),
            "They do not count for O(_input.trusted_proxies) either, but for the clients behind them, as far as these name them.",
        ),
        default=(),
        elements="network",
    ),
    Option(
        "rate_limit",
        "int",
        (
            "Requests per second that one client address may send to one HTTP service; what is too much gets 429. V(0) sets no limit.",
            "Many clients behind one address, such as those of a proxy that is none of O(_input.trusted_proxies), share it.",
        ),
        default=0,
        minimum=0,
        maximum=100000,
    ),
    Option(
        "rate_limit_burst",
        "int",
        ("Requests that a client may send at once before O(_input.rate_limit) counts, such as those of one page.",),
        default=100,
        minimum=0,
        maximum=100000,
    ),
    Option(
        "response_header_size",
        "size",
        (
            "Largest header of an answer: its status line and all header fields. A larger one is answered with 502.",
            "The default leaves 32 kB to the fields of the application.",
            "A request that is waited for holds one buffer of this size, of which only what is received takes memory.",
        ),
        default="40k",
        minimum=4096,
        maximum=1 << 20,
    ),
    Option(
        "upgrades",
        "list",
        (
            "Protocols to which a client may change a connection by C(Upgrade), each as the whole value of that header.",
            (
                "After the change neither headers, limits nor the access log apply to what goes over the connection, so V(h2c) is refused here. "
                "For any other value, C(Upgrade) and C(HTTP2-Settings) are not passed on, and the instance answers over HTTP/1.1."
            ),
        ),
        default=("websocket",),
        elements="upgrade",
    ),
    Option(
        "cleared_headers",
        "list",
        (
            "Further request headers that reach an instance only from O(_input.trusted_proxies), because they state what only a proxy can know.",
            (
                "They are added to those that the edge always clears, which the guide lists; O(_input.passed_headers) takes some of these out. "
                "Those that the edge writes itself, such as C(X-Forwarded-For), are never taken from other clients."
            ),
        ),
        default=(),
        elements="cleared_header",
    ),
    Option(
        "passed_headers",
        "list",
        (
            "Request headers of those that the edge always clears which clients may send here.",
            "For an application that does not believe them, or that has a use of its own for the name.",
        ),
        default=(),
        elements="passed_header",
    ),
    Option(
        "underscore_headers",
        "bool",
        (
            "Whether request headers with underscores in their names, such as C(api_key), are passed on. By default nginx drops them without a word.",
            (
                "CGI and WSGI applications cannot tell C(X_Forwarded_User) from C(X-Forwarded-User), "
                "so every spelling of the headers that the edge clears or writes itself stays out."
            ),
            (
                "The directive is written for all of nginx's http block, V(false) too: C(underscores_in_headers) in a file of the operator "
                "would let through what the edge does not clear, and nginx refuses it as a duplicate."
            ),
        ),
        default=False,
    ),
    Option("client_max_body_size", "size", ("Largest request body of an HTTP service. V(0) means any size.",), default="100m"),
    Option(
        "trusted_proxies",
        "list",
        (
            "Addresses and networks of proxies in front of the edge whose C(X-Forwarded-For) and C(X-Forwarded-Proto) are believed.",
            "Empty means that the edge is the outermost proxy and replaces what clients send.",
        ),
        default=(),
        elements="network",
    ),
    Option(
        "request_id",
        "choice",
        ("Whether a well-formed C(X-Request-ID) of the client is kept (V(accept)) or always replaced (V(generate)).",),
        default="accept",
        choices=("accept", "generate"),
    ),
    Option("canary", "dict", ("Gray release of HTTP services: how traffic gets to the instances with service meta C(edge_canary).",), suboptions=_CANARY),
    Option(
        "internal",
        "dict",
        ("Services for callers inside, on every node that has this: they get balancing and another try where bare DNS answers give one address.",),
        suboptions=_INTERNAL,
    ),
    Option(
        "remote_services",
        "list",
        (
            "Services that also, or only, have instances in another data centre. Their tags and service meta count there as they do here.",
            "P(trinode.platform.edge_datacenters#filter) gives the sources that fetch them, for a consul-template of its own.",
        ),
        default=(),
        elements="dict",
        suboptions=_REMOTE_SERVICE,
    ),
    Option(
        "remote_directory",
        "directory",
        ("Directory in which each other data centre of O(_input.remote_services) has a file with its instances, C(datacenter-NAME.json).",),
        default="/var/lib/nginx-edge/staging",
    ),
    Option("tls", "dict", ("TLS that the edge ends itself, in front of HTTP services.",), suboptions=_TLS),
    Option(
        "proxy_protocol",
        "bool",
        (
            "Whether TCP services get a PROXY protocol header with the client's address, where the service meta C(edge_proxy_protocol) does not say otherwise.",
            "A service that does not expect the header breaks with it.",
        ),
        default=False,
    ),
    Option(
        "http_access_log",
        "log",
        (
            "File of the HTTP access log, or V(off). A line is there at most a second after its request.",
            "What a client writes is cut, and ends with V(...) then.",
            "The path, or the request line, has 1024 characters, the user agent 256, the host name 255, the method 32.",
        ),
        default="/var/log/nginx/edge-http.log",
    ),
    Option("tcp_access_log", "log", ("File of the TCP and TLS access log, or V(off).",), default="/var/log/nginx/edge-tcp.log"),
    Option("log_format", "choice", ("Whether an access log line is a JSON object or plain C(key=value) text.",), default="json", choices=("json", "text")),
    Option(
        "map_hash_bucket_size",
        "int",
        ("Value of nginx's C(map_hash_bucket_size) in the stream block; long host names need it. V(0) leaves the directive out, for an operator who sets it.",),
        default=512,
        minimum=0,
        maximum=65536,
    ),
    Option(
        "max_services",
        "int",
        (
            "Services with one tag that are looked at, at most. What comes later in the fixed order is refused, and consul-template does not ask for it.",
            (
                "It asks Consul about each of the others on a connection of its own. "
                "P(trinode.platform.edge_connections#filter) works out from this what both sides need."
            ),
        ),
        default=3000,
        minimum=1,
        maximum=10000,
    ),
    Option("max_instances", "int", ("Instances of one service that are used at most.",), default=200, minimum=1, maximum=1000),
    Option("max_reports", "int", ("Refusals that each side lists one by one. What is beyond is only counted.",), default=500, minimum=1, maximum=10000),
)

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_HOST_PATTERN = re.compile(r"[a-z0-9_*](?:[a-z0-9_*-]{0,61}[a-z0-9_*])?")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_DURATION = re.compile(r"[1-9][0-9]{0,8}(?:ms|s|m|h|d)")
_SIZE = re.compile(r"(?:0|[1-9][0-9]{0,8})[kKmMgG]?")
_LOG = re.compile(r"off|/(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")
_HEADER = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?)?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
_UPGRADE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9./-]{0,30}[A-Za-z0-9])?")
_COOKIE = re.compile(r"[A-Za-z0-9_]{0,64}")
_CERTIFICATE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_SERVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_DATACENTER = re.compile(r"[a-z0-9_-]{1,63}")
_CERTIFICATE_HOST = re.compile(r"\*|[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
# Short, because the path of a unix socket has at most 107 characters.
_DIRECTORY = re.compile(r"(?=.{2,64}\Z)(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
# A label of 63 characters and its dot must fit in front of the domain in a name of 253.
_DOMAIN_LENGTH = 253 - 64


def _text(value: t.Any, allowed: str) -> str:
    if not isinstance(value, str):
        raise _Bad(allowed)
    # A plain string: what comes from Ansible may be a subclass that carries tags.
    return "".join(value)


def _pattern(value: t.Any, pattern: re.Pattern[str], allowed: str) -> str:
    text = _text(value, allowed)
    if not pattern.fullmatch(text):
        raise _Bad(allowed)
    return text


def _integer(value: t.Any, minimum: int, maximum: int) -> int:
    allowed = f"an integer from {minimum} to {maximum}"
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise _Bad(allowed)
    return int(value)


def _domain(value: t.Any) -> str:
    allowed = f"a domain name of letters, digits, hyphens and dots with at most {_DOMAIN_LENGTH} characters, such as apps.example.org"
    text = _text(value, allowed).lower()
    if len(text) > _DOMAIN_LENGTH or not _DOMAIN.fullmatch(text):
        raise _Bad(allowed)
    return text


def _ip(value: t.Any) -> str:
    allowed = "an IPv4 or IPv6 address without brackets, port or prefix length"
    text = _text(value, allowed)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise _Bad(allowed) from None
    if "%" in text:
        raise _Bad(allowed)
    return str(address)


def _own_ip(value: t.Any) -> str:
    allowed = "an address of the node itself, neither 0.0.0.0 nor ::, without brackets, port or prefix length"
    try:
        text = _ip(value)
    except _Bad:
        raise _Bad(allowed) from None
    if ipaddress.ip_address(text).is_unspecified or ipaddress.ip_address(text).is_multicast:
        raise _Bad(allowed)
    return text


def _network(value: t.Any) -> str:
    allowed = "an IPv4 or IPv6 address or network such as 192.0.2.0/24, with no host bits set"
    try:
        return str(ipaddress.ip_network(_text(value, allowed)))
    except ValueError:
        raise _Bad(allowed) from None


def size_in_bytes(text: str) -> int:
    """Return the number of bytes that a checked size means."""
    return int(text.rstrip("kKmMgG")) << {"k": 10, "m": 20, "g": 30}.get(text[-1].lower(), 0)


_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def in_milliseconds(text: str) -> int:
    """Return the number of milliseconds that a checked duration means."""
    number = text.rstrip("smhd")
    return int(number) * _MILLISECONDS[text[len(number) :]]


def _size(option: Option, value: t.Any) -> str:
    allowed = "a whole number with no unit or one of k, m, g, such as 100m"
    text = _pattern(value, _SIZE, allowed)
    if option.maximum and not option.minimum <= size_in_bytes(text) <= option.maximum:
        raise _Bad(f"a size from {option.minimum >> 10}k to {option.maximum >> 10}k, such as {option.default}")
    return text


def _upgrade(value: t.Any) -> str:
    allowed = "a protocol of letters, digits, dots, slashes and hyphens, such as websocket, and not h2c"
    text = _pattern(value, _UPGRADE, allowed).lower()
    if text == "h2c":
        raise _Bad(allowed)
    return text


def _cleared_header(value: t.Any) -> str:
    text = _pattern(value, _HEADER_NAME, "a header name of letters, digits and hyphens")
    if text.lower() in {name.lower() for name in OWN_HEADERS}:
        raise _Bad("a header that the edge does not write itself")
    return text


def _passed_header(value: t.Any) -> str:
    text = _pattern(value, _HEADER_NAME, "a header name of letters, digits and hyphens")
    known = {name.lower(): name for name in CLEARED_HEADERS}
    if text.lower() not in known:
        near = difflib.get_close_matches(text.lower(), known, n=1, cutoff=0.0)
        raise _Bad(f"a header that the edge clears, of which the nearest is {known[near[0]]}")
    return known[text.lower()]


def _port_range(value: t.Any) -> str:
    allowed = "a port from 1 to 65535 or a range such as 9000-9999 whose first port is not above its last"
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value, allowed)
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    if not match:
        raise _Bad(allowed)
    first, last = int(match.group(1)), int(match.group(2) or match.group(1))
    if not 1 <= first <= last <= 65535:
        raise _Bad(allowed)
    return f"{first}-{last}"


def _value(option: Option, kind: str, value: t.Any, context: dict[str, t.Any]) -> t.Any:
    """The checked value of anything but a list or dict."""
    if kind == "bool":
        if not isinstance(value, bool):
            raise _Bad("true or false")
        return bool(value)
    if kind == "int":
        return _integer(value, option.minimum, option.maximum)
    if kind == "port":
        return _integer(value, 1, 65535)
    if kind == "choice":
        allowed = "one of " + ", ".join(option.choices)
        if _text(value, allowed) not in option.choices:
            raise _Bad(allowed)
        return _text(value, allowed)
    if kind in ("host_pattern", "certificate_host"):
        domain = context.get("domain") or "the domain"
        part, example = ("any part of its first label", "team1-*") if kind == "host_pattern" else ("its whole first label", "*")
        allowed = f"a host name directly below {domain}, where * may stand for {part}, such as {example}.{domain}"
        label, dot, rest = _text(value, allowed).lower().partition(".")
        pattern = _HOST_PATTERN if kind == "host_pattern" else _CERTIFICATE_HOST
        if not dot or not pattern.fullmatch(label) or rest != context.get("domain", rest):
            raise _Bad(allowed)
        return f"{label}.{rest}"
    simple: dict[str, t.Callable[[t.Any], t.Any]] = {
        "domain": _domain,
        "ip": _ip,
        "own_ip": _own_ip,
        "network": _network,
        "port_range": _port_range,
        "size": lambda given: _size(option, given),
        "upgrade": _upgrade,
        "cleared_header": _cleared_header,
        "passed_header": _passed_header,
    }
    if kind in simple:
        return simple[kind](value)
    patterns = {
        "tag": (_TAG, "a tag of letters, digits, hyphens and underscores that begins with a letter or digit"),
        "duration": (_DURATION, "a positive whole number with one of the units ms, s, m, h, d, such as 400ms"),
        "log": (_LOG, "off, or an absolute path of letters, digits, dots, hyphens and underscores"),
        "header": (_HEADER, "a header name of letters, digits and hyphens, or an empty string"),
        "cookie": (_COOKIE, "a cookie name of letters, digits and underscores, or an empty string"),
        "certificate": (_CERTIFICATE_NAME, "at most 32 lower-case letters, digits and hyphens, with a letter or digit at both ends"),
        "service": (_SERVICE, "at most 63 letters, digits, hyphens and underscores, with a letter or digit at both ends"),
        "datacenter": (_DATACENTER, "at most 63 lower-case letters, digits, hyphens and underscores"),
        "directory": (_DIRECTORY, "an absolute path of at most 64 letters, digits, dots, hyphens and underscores, without a slash at its end"),
    }
    return _pattern(value, *patterns[kind])


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
            item = _value(option, option.elements, element, context)
        except _Bad as bad:
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
                checked[option.name] = _value(option, option.kind, given[option.name], {**context, **checked})
            except _Bad as bad:
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


def cleared_headers(settings: dict[str, t.Any]) -> list[str]:
    """Return the headers that only a trusted proxy may set: those of every edge without the passed ones, and the operator's."""
    passed = {name.lower() for name in settings["passed_headers"]}
    found = {name.lower(): name for name in CLEARED_HEADERS if name.lower() not in passed}
    for name in settings["cleared_headers"]:
        found.setdefault(name.lower(), name)
    return list(found.values())


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
    if len(internal["domain"]) > _DOMAIN_LENGTH:
        errors.append(f"internal.domain: {_shown(internal['domain'])} is not allowed, it must have at most {_DOMAIN_LENGTH} characters")
    if internal["domain"] == checked["domain"]:
        errors.append(f"internal.domain: {_shown(internal['domain'])} is not allowed, it must differ from domain")
    for address in sorted({*internal["listen_addresses"]} & {*checked["listen_addresses"]}):
        errors.append(f"internal.listen_addresses: {_shown(address)} is not allowed, it must differ from those of listen_addresses")
    if internal["http_port"] == checked["tls_port"]:
        errors.append(f"internal.http_port: {internal['http_port']} is not allowed, it must differ from tls_port")
    return errors


def check_edge(edge: t.Any) -> dict[str, t.Any]:
    """The edge description with every default filled in; raises :class:`EdgeError` that lists all errors."""
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
