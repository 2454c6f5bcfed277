"""Spans by OpenTelemetry's conventions for messaging, where its API is installed and a provider is set; else nothing.

The law of this room: without OpenTelemetry, and without a provider, no work pays for it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Protocol

from taskstore.model import TaskInfo
from taskstore.worker.outcomes import Outcome

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

SYSTEM: Final = "taskstore"
"""What the conventions call `messaging.system`."""


class Traced(Protocol):
    """What is told how a handler has ended."""

    def ended(self, outcome: Outcome | None, error: BaseException | None) -> None:
        """The handler has ended, with an outcome or with an error."""


class _Untraced:
    def ended(self, outcome: Outcome | None, error: BaseException | None) -> None:
        """Nobody wants to know."""


_UNTRACED: Final = nullcontext(_Untraced())


class Tracing:
    """Makes a span for each task that a handler works on."""

    def __init__(self, client_id: int) -> None:
        self._client_id = str(client_id)
        self._tracer = _tracer()

    def task(self, task: TaskInfo) -> AbstractContextManager[Traced]:
        """A context in which a handler works on a task."""
        return _UNTRACED if self._tracer is None else self._span(self._tracer, task)

    @contextmanager
    def _span(self, tracer: "Tracer", task: TaskInfo) -> Iterator[Traced]:
        from opentelemetry.trace import SpanKind

        attributes: dict[str, Any] = {
            "messaging.system": SYSTEM,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": task.group,
            "messaging.message.id": str(task.id),
            "messaging.message.body.size": len(task.data.encode()),
            "messaging.client.id": self._client_id,
            "taskstore.task.attempts": task.attempts,
        }
        name = f"process {task.group}"
        with tracer.start_as_current_span(
            name, kind=SpanKind.CONSUMER, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            yield _Spanned(span)


class _Spanned:
    def __init__(self, span: "Span") -> None:
        self._span = span

    def ended(self, outcome: Outcome | None, error: BaseException | None) -> None:
        from opentelemetry.trace import StatusCode

        if outcome is not None:
            self._span.set_attribute("taskstore.outcome", type(outcome).__name__.lower())
        if error is not None:
            self._span.set_attribute("error.type", type(error).__qualname__)
            self._span.record_exception(error)
            self._span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")


def _tracer() -> "Tracer | None":
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None  # Nobody has said where spans should go.
    from taskstore.transport import USER_AGENT

    return trace.get_tracer("taskstore", USER_AGENT.rpartition("/")[2])
