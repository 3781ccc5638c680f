"""Traces by OpenTelemetry, off unless `log.traces` names a collector: a span for each request that
cannot be answered at once and for each job, and within it one for each call of a decode worker and
for each HTTP request to another server.

The packages are optional (`pip install 'orchestrator[tracing]'`), so they are imported only when a
collector is named. Without one a span costs a function call.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.fault_log import FaultLog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from yarl import URL

log = logging.getLogger(__name__)
_PACKAGES = (
    "opentelemetry.sdk.trace",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.instrumentation.aiohttp_client",
)
_EXPORT_S = 2.0
"""How long the collector may take for one message; the end of a process waits as long for it."""
_ERROR_STATUS = 500
Kind = Literal["server", "consumer", "internal"]
Attributes = Mapping[str, str | int]


class Span:
    """The span of a request, job or step; this one is for processes without a collector."""

    trace_parent = ""
    """The value of the header `traceparent` that names the span to other servers, "" for none."""

    def set_status(self, status: int) -> None:
        """Record the HTTP status of the response; from 500 on the span counts as failed."""

    def set(self, name: str, value: str | int) -> None:
        """Record an attribute."""

    def fail(self, reason: str) -> None:
        """Mark the span as failed."""


_NO_SPAN = nullcontext(Span())


class Tracing:
    """Opens spans; this one is for processes without a collector, and opens none."""

    def span(
        self,
        name: str,
        attributes: Attributes,
        *,
        kind: Kind = "internal",
        headers: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Span]:
        """A block that is a span, below the one it is in. With the `headers` of a request it
        continues the trace of the client.
        """
        return _NO_SPAN

    def close(self) -> None:
        """Send what is left, for at most two seconds. Blocks."""


NO_TRACING = Tracing()


def has_tracing_packages() -> bool:
    """True if the optional packages are installed."""
    try:
        return all(find_spec(package) is not None for package in _PACKAGES)
    except ModuleNotFoundError:  # of a package above it
        return False


def open_tracing(collector: str) -> Tracing:
    """What opens the spans of this process. They go to `collector`, the base address of a receiver
    of OTLP over HTTP (`http://localhost:4318`), from a thread.

    Spans that the collector does not take are dropped: no request waits for it. The variables
    OTEL_TRACES_SAMPLER, OTEL_BSP_* and OTEL_RESOURCE_ATTRIBUTES of OpenTelemetry apply.
    """
    return _OpenTelemetry(collector) if collector else NO_TRACING


class _OpenTelemetrySpan(Span):
    def __init__(self, span: Any) -> None:
        self._span = span
        context = span.get_span_context()
        self.trace_parent = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        )

    def set_status(self, status: int) -> None:
        self.set("http.response.status_code", status)
        if status >= _ERROR_STATUS:
            self.fail(str(status))

    def set(self, name: str, value: str | int) -> None:
        self._span.set_attribute(name, value)

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_status(StatusCode.ERROR, reason)


class _OpenTelemetry(Tracing):
    def __init__(self, collector: str) -> None:
        from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor

        self._provider = _provider(collector)
        self._tracer = self._provider.get_tracer("orchestrator")
        # All client sessions of the process, those of the S3 client included. Without the query:
        # addresses of origins may be signed, those of webhooks may have a key.
        AioHttpClientInstrumentor().instrument(
            tracer_provider=self._provider, url_filter=_without_secrets
        )

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Attributes,
        *,
        kind: Kind = "internal",
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Span]:
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(
            name,
            None if headers is None else extract(headers),
            SpanKind[kind.upper()],
            dict(attributes),
            record_exception=False,  # its text may have a signed address
            set_status_on_exception=False,
        ) as span:
            try:
                yield _OpenTelemetrySpan(span)
            except Exception as error:  # raised again: the span shows its class
                _OpenTelemetrySpan(span).fail(type(error).__name__)
                raise

    def close(self) -> None:
        from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor

        AioHttpClientInstrumentor().uninstrument()
        self._provider.shutdown()


def _provider(collector: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    product = {"service.name": "orchestrator", "service.version": version("orchestrator")}
    provider = TracerProvider(resource=Resource.create(product), shutdown_on_exit=False)
    address = f"{collector.rstrip('/')}/v1/traces"
    exporter = OTLPSpanExporter(endpoint=address, timeout=_EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(_logged(exporter)))
    return provider


def _logged(exporter: SpanExporter) -> SpanExporter:
    """The exporter, with an outage of the collector in the log as every other repeated fault; its
    own messages, one for each attempt, are not logged.
    """
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    faults = FaultLog(log, "traces not sent", "traces sent again")

    class Logged(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = exporter.export(spans)
            if result is SpanExportResult.SUCCESS:
                faults.clear()
            else:
                faults.report(spans=len(spans))
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    return Logged()


def _without_secrets(url: URL) -> str:
    return str(url.with_query(None).with_user(None))
