"""Logs and metrics of an instance.  Neither ever holds a name, an address, an e-mail or a secret."""

from __future__ import annotations

import copy
import json
import logging
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .domain.events import Event

TRACE: ContextVar[str] = ContextVar("trace", default="")
"""The trace id of what is being done: it follows an order through every service."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
LAGS = 2_000
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def new_trace() -> str:
    """A trace id of W3C's form: 32 hexadecimal digits."""
    return uuid.uuid4().hex


@contextmanager
def tracing(trace: str) -> Iterator[None]:
    """Do the block under this trace id."""
    token = TRACE.set(trace)
    try:
        yield
    finally:
        TRACE.reset(token)


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._who = {"service": service, "instance": instance}

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._who,
            "message": record.getMessage(),
        }
        if trace := TRACE.get():
            line["trace"] = trace
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_standard_error(service: str, instance: str) -> None:
    """Every log of this process becomes JSON lines on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(service, instance))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("pymongo").setLevel(logging.WARNING)
    # It repeats several times a second that a broker is away; the shop says so itself.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class Telemetry:
    """The metrics of an instance."""

    def __init__(self, service: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "shop_http_requests", "Requests answered", ["service", "method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "shop_http_seconds", "Time to answer", ["service", "route"], registry=registry, buckets=_BUCKETS
        )
        self._handled = Counter("shop_events_handled", "Effects", ["service", "type"], registry=registry)
        self._lags = Histogram(
            "shop_event_lag_seconds", "From an event to its effect", ["service"], registry=registry, buckets=_BUCKETS
        )
        self._held = Gauge("shop_lanes_held", "Lanes this instance handles", ["service"], registry=registry)
        self._parked = Counter("shop_events_parked", "Events put aside", ["service"], registry=registry)
        self.orders = Counter("shop_orders", "Orders that became", ["status"], registry=registry)
        self._positions = Gauge(
            "shop_lane_position_age_seconds", "Since the log was read last", ["service"], registry=registry
        )
        self._consume_as(service)

    def _consume_as(self, service: str) -> None:
        self._lag = self._lags.labels(service)
        self.lanes_held, self.events_parked = self._held.labels(service), self._parked.labels(service)
        self._positions.labels(service).set_function(lambda: time.monotonic() - self._read_at)
        self._read_at = time.monotonic()
        self._service = service
        self._recent: deque[float] = deque(maxlen=LAGS)
        self.effects = 0

    def beside(self, service: str) -> Telemetry:
        """That of another consumer in this process, under a name of its own in the same metrics."""
        other = copy.copy(self)
        other._consume_as(service)
        return other

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(self._service, method, route, str(status)).inc()
        self._seconds.labels(self._service, route).observe(seconds)

    def stream_read(self) -> None:
        """The event log told something, if only that nothing happened."""
        self._read_at = time.monotonic()

    def handled(self, event: Event) -> None:
        """An event has had its effect."""
        self._handled.labels(self._service, event.type).inc()
        self.effects += 1
        if event.at:
            lag = max(0.0, (datetime.now(UTC) - event.at).total_seconds())
            self._lag.observe(lag)
            self._recent.append(lag)

    def sources(self) -> SourceMetrics:
        """Metrics of the sources that answers are merged from; asked for once, by a service that merges."""
        return SourceMetrics(self.registry)

    def lag_ms(self) -> dict[str, float | None]:
        """Median and 99th percentile of the last effects, in milliseconds."""
        lags = sorted(self._recent)
        return {
            name: round(lags[min(len(lags) - 1, int(share * len(lags)))] * 1000, 1) if lags else None
            for name, share in (("p50", 0.5), ("p99", 0.99))
        }

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)


class SourceMetrics:
    """See `services.circuit.Watcher`."""

    STATES: ClassVar[dict[str, int]] = {"closed": 0, "half-open": 1, "open": 2}

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "shop_source_seconds",
            "Time a source took to answer or fail",
            ["source"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self._state = Gauge(
            "shop_source_circuit", "0 closed: asked; 1 half open: a probe; 2 open: away", ["source"], registry=registry
        )
        self._missing = Counter(
            "shop_source_missing", "Answers without the part of a source", ["source"], registry=registry
        )

    def asked(self, source: str, seconds: float) -> None:
        """It answered or failed after so long."""
        self._seconds.labels(source).observe(seconds)

    def became(self, source: str, state: str) -> None:
        """Its circuit changed."""
        self._state.labels(source).set(self.STATES[state])
        self._missing.labels(source)  # there from the start, so that its first miss is seen as an increase

    def missing(self, source: str) -> None:
        """An answer went out without its part."""
        self._missing.labels(source).inc()
