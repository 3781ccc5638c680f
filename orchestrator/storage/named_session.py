"""The session of all clients of S3 and SQS. Their requests name the request of a client that
caused them, so that the access log of an S3-compatible store can be searched for it.
"""

from __future__ import annotations

from typing import Any

from aiobotocore.session import AioSession, get_session

from orchestrator.work_context import work_context


def named_session() -> AioSession:
    """A new session."""
    session = get_session()
    # After signing: a proxy in front of the store may replace X-Request-Id.
    session.register("before-send", _add_names)
    return session


def _add_names(request: Any, **_: object) -> None:
    for name, value in work_context().headers().items():
        request.headers[name] = value
