"""The socket a port listens on; apart from the runner, for whoever only asks whether it can be had:
this imports nothing heavy.
"""

from __future__ import annotations

import socket
from typing import Any

from orchestrator.errors import Conflict


def open_listen_socket(host: str, port: int, *, shared: bool) -> socket.socket:
    """A bound TCP socket, not yet listening. `shared`: other processes may bind the same port
    (SO_REUSEPORT).

    Raises Conflict when the address is taken or not ours.
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
        raise Conflict(f"Port {port} of {host} cannot be listened on: {reason}.") from error
    return listener
