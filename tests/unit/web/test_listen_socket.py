"""Putting a port on an address."""

from __future__ import annotations

import socket

import pytest

from orchestrator.errors import Conflict
from orchestrator.web.listen_socket import open_listen_socket


def test_the_error_of_a_port_in_use_names_port_and_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            Conflict, match=f"Cannot listen on port {port} of 127.0.0.1: .* already in use"
        ):
            open_listen_socket("127.0.0.1", port, shared=True)


def test_an_address_of_another_host_cannot_be_listened_on() -> None:
    with pytest.raises(Conflict, match=r"Cannot listen on port 0 of 192\.0\.2\.1"):
        open_listen_socket("192.0.2.1", 0, shared=False)
