"""Sends the head of a response and the body in a file straight to the socket, so that the
body is not copied (docs/adr/0018-hot-bodies-are-files-in-memory.md).
"""

from __future__ import annotations

import socket
from os import sendfile
from socket import MSG_MORE
from typing import Any

from orchestrator.cache.disk.body_files import BodyFile
from orchestrator.cache.hot.memory_files import MemoryFile


class SocketSender:
    """Sends on the socket of one transport."""

    __slots__ = ("_fd", "_send_head", "_socket", "_transport", "_unsent_size", "_write")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._write = transport.write
        self._unsent_size = transport.get_write_buffer_size
        self._socket: socket.socket | None = None
        self._fd = -1
        self._send_head: Any = self._open_and_send

    def send(self, head: bytes, file: MemoryFile | BodyFile) -> None:
        """Send head and body without a copy of the body. Bytes that the socket does not take at
        once, or refuses, go to the transport, which waits for the client and handles errors.
        """
        sent = taken = 0
        if self._unsent_size() == 0:
            try:
                sent = self._send_head(head, MSG_MORE)
                if sent == len(head):
                    taken = sendfile(self._fd, file.fd, 0, file.length)
            except OSError:
                pass  # the transport sends the rest and meets the same error
        if taken < file.length:
            self._write(head[sent:] + file.read(taken))

    def release(self) -> None:
        """Let go of the descriptor, which the transport owns and closes."""
        if self._socket is not None:
            self._socket.detach()
        self._socket = self._send_head = None

    def _open_and_send(self, head: bytes, flags: int) -> int:
        """Send for the first time on this connection. The socket object of a transport cannot send,
        so this makes a second object of the same descriptor.
        """
        original = self._transport.get_extra_info("socket")
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        self._fd = original.fileno()
        self._socket = socket.socket(original.family, kind, original.proto, self._fd)
        self._send_head = self._socket.send
        return self._socket.send(head, flags)
