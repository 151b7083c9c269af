# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The request headers that the edge writes itself or clears. Private to the collection, pure."""

from __future__ import annotations

import typing as t

# Headers that the edge writes itself, or never passes on: they cannot be listed in cleared_headers.
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


def cleared_headers(settings: dict[str, t.Any]) -> list[str]:
    """Return the headers that only a trusted proxy may set: those of every edge without the passed ones, and the operator's."""
    passed = {name.lower() for name in settings["passed_headers"]}
    found = {name.lower(): name for name in CLEARED_HEADERS if name.lower() not in passed}
    for name in settings["cleared_headers"]:
        found.setdefault(name.lower(), name)
    return list(found.values())
