"""Binds the socket of a port. A module of its own that imports little: the supervisor and `doctor`
use it only to check that a port is free.
"""

from __future__ import annotations

import socket
from typing import Any

from orchestrator.errors import StateConflict


def open_listen_socket(host: str, port: int, *, shared: bool) -> socket.socket:
    """Return a bound TCP socket that does not listen yet. `shared`: other processes may bind the
    same port (SO_REUSEPORT).

    Raises Conflict if the port is in use or the address does not belong to this host.
    """
    kind: Any = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(kind, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        reason = error.strerror or type(error).__name__
        raise StateConflict(f"Cannot listen on port {port} of {host}: {reason}.") from error
    return listener
