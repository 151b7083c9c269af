# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""httpbackend: the internal http service. It has no public name; others find it in Consul."""

from __future__ import annotations

import os

from sample import VERSION, HttpHandler, HttpServer, serve_http


class Handler(HttpHandler):
    def reply(self, identity: str) -> tuple[int, str]:  # noqa: ARG002
        return 200, f"this is httpbackendservice, version: {VERSION}"


if __name__ == "__main__":
    serve_http(HttpServer("httpbackend", int(os.environ.get("SAMPLE_PORT", "8081")), Handler))
