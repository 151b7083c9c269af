# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""httpsfront: an https service whose certificate lives in the service itself; the edge passes TLS through untouched."""

from __future__ import annotations

import os
import ssl

from sample import VERSION, HttpHandler, HttpServer, serve_http

CERTIFICATE = os.environ.get("TLS_CERTIFICATE", "/tls/certificate.pem")
KEY = os.environ.get("TLS_KEY", "/tls/key.pem")


class Handler(HttpHandler):
    def reply(self, identity: str) -> tuple[int, str]:  # noqa: ARG002
        return 200, f"this is httpsfrontservice, version: {VERSION}"


def server(port: int, certificate: str, key: str) -> HttpServer:
    """The service with its own certificate; a missing file is one sentence, not a traceback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as exc:
        raise SystemExit(f"httpsfront: cannot read the certificate {certificate} with the key {key}: {exc}; mount both, e.g. -v DIRECTORY:/tls:ro") from exc
    result = HttpServer("httpsfront", port, Handler)
    result.tls = context
    return result


if __name__ == "__main__":
    serve_http(server(int(os.environ.get("SAMPLE_PORT", "8443")), CERTIFICATE, KEY))
