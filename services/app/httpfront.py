# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""httpfront: the exposed http service. It calls httpbackend by its Consul name on every request."""

from __future__ import annotations

import http.client
import os
import time
import urllib.request

from sample import VERSION, HttpHandler, HttpServer, log, serve_http

BACKEND_URL = os.environ.get("BACKEND_URL", "http://httpbackend.service.dc1.consul:8081")
BACKEND_TIMEOUT = float(os.environ.get("BACKEND_TIMEOUT", "1"))
# The name is resolved again for every try: an instance that is gone has left the answer meanwhile.
BACKEND_TRIES = int(os.environ.get("BACKEND_TRIES", "5"))


def call_backend(url: str, request: str, tries: int = BACKEND_TRIES) -> tuple[bool, str]:
    """Return whether the backend answered, and its answer or the last error."""
    error = ""
    for number in range(tries):
        if number:
            time.sleep(0.1 * number)
        try:
            call = urllib.request.Request(url, headers={"X-Request-Id": request})
            with urllib.request.urlopen(call, timeout=BACKEND_TIMEOUT) as response:
                # Without a size: only so the end of the connection within the answer is an error.
                return True, response.read().decode(errors="replace").strip()
        except (OSError, ValueError, http.client.HTTPException) as exc:
            error = str(exc)
            log("httpfront", "backend_error", id=request, url=url, attempt=number + 1, error=error)
    return False, error


class Handler(HttpHandler):
    def reply(self, identity: str) -> tuple[int, str]:
        ok, text = call_backend(BACKEND_URL, identity)
        state = "ok" if ok else "failed"
        return (200 if ok else 502), f"this is httpfrontservice, version: {VERSION}, calling backendservice {state}, its resp: [{text} ]"


if __name__ == "__main__":
    serve_http(HttpServer("httpfront", int(os.environ.get("SAMPLE_PORT", "8080")), Handler))
