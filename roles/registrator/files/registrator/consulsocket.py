# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP to the local Consul agent over its unix socket."""

from __future__ import annotations

import socket
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool


class _Pool(HTTPConnectionPool):
    """Connections to one socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def _new_conn(self) -> HTTPConnection:
        return _Connection(self.path)


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def _new_conn(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The pool has set the time-out of the call by now.
            made.settimeout(self.timeout)
            made.connect(self.path)
        except BaseException:
            made.close()
            raise
        return made


class SocketAdapter(HTTPAdapter):
    """Sends every request of a session to one unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._pool = _Pool(path)

    def get_connection(self, *_request: Any, **_more: Any) -> Any:
        """Return the pool, for requests before 2.32."""
        return self._pool

    def get_connection_with_tls_context(self, *_request: Any, **_more: Any) -> Any:
        """Return the pool, for requests from 2.32 on."""
        return self._pool

    def close(self) -> None:
        """Close the idle connections; the next request makes a new one."""
        super().close()
        path = self._pool.path
        self._pool.close()
        self._pool = _Pool(path)
