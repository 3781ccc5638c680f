"""Limits of a connection: how many there may be, how long a header may take to arrive, and how long
a client may take no byte of a waiting response.
"""

from __future__ import annotations

import logging
from typing import Any

from orchestrator import metrics
from orchestrator.web.error_table import make_status_problem
from orchestrator.web.port_state import PortState
from orchestrator.web.protocol_errors import JsonErrorProtocol, encode_last_response

log = logging.getLogger(__name__)
LINGER_S = 0.5
"""How long the rest of a refused body is read."""
STALLED_S = 60.0
"""A connection ends when the client takes no byte of a waiting response for this time (nginx:
send_timeout).
"""


class DeadlineProtocol(JsonErrorProtocol):
    """Ends a connection that exceeds a limit. PortState calls `check_deadlines` once a second, so
    that no connection needs timers of its own.
    """

    __slots__ = (
        "_header_late_since",
        "_stalled_since",
        "_unsent_before",
        "_unsent_size",
        "_wire",
    )

    def __init__(self, manager: Any, port_state: PortState, **options: Any) -> None:
        super().__init__(manager, port_state, **options)
        self._header_late_since = 0.0  # set while the client has sent a part of a message
        self._stalled_since = 0.0
        self._unsent_before = 0
        self._wire: Any = None
        self._unsent_size: Any = None

    def connection_made(self, transport: Any) -> None:
        """Accept the connection, or answer 503 and close it if there are too many."""
        super().connection_made(transport)
        self._wire = transport  # aiohttp clears its own reference when it begins to close
        self._unsent_size = transport.get_write_buffer_size
        manager, limits = self._manager, self._port_state.limits
        if manager is not None and len(manager._connections) > limits.max_connections:
            metrics.REFUSED.labels("connection").inc()
            transport.write(encode_last_response(make_status_problem(503), self._port_state))
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the transport."""
        self._wire = None
        super().connection_lost(exc)

    def check_deadlines(self, now: float) -> None:
        """Called once a second with the monotonic time: end the connection if a header is late or
        the client takes no byte, however few bytes wait and even if aiohttp is closing it.
        """
        late_since = self._header_late_since
        if late_since and now - late_since > self._port_state.limits.header_timeout_s:
            self._header_late_since = 0.0
            metrics.PROTOCOL_ERRORS.labels("408").inc()
            if self.transport is not None:
                problem = make_status_problem(408)
                self.transport.write(encode_last_response(problem, self._port_state))
            self.force_close()
        elif unsent := self.unsent_bytes():
            self._check_reader(now, unsent)
        else:
            self._stalled_since = 0.0

    def refuse_body(self) -> None:
        """Read only for a moment what the client still sends of its request: so long that it can
        read the answer, and no longer.
        """
        self._lingering_time = LINGER_S

    def unsent_bytes(self) -> int:
        """Return the bytes of responses that the client's socket has not taken yet."""
        return self._unsent_size() if self._wire is not None else 0

    def abort(self) -> None:
        """End the connection now; unsent bytes are lost."""
        if self._wire is not None:
            self._wire.abort()

    def _check_reader(self, now: float, unsent: int) -> None:
        if not self._stalled_since or unsent < self._unsent_before:
            self._stalled_since = now
        elif now - self._stalled_since > STALLED_S:
            log.info("reader stalled", extra={"waiting_bytes": unsent})
            self.abort()
        self._unsent_before = unsent
