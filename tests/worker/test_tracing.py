"""Spans by OpenTelemetry's conventions for messaging, if somebody has said where they should go."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from taskstore import ID, AsyncHTTPClient, AsyncWorker, HTTPClient, Progress, TaskInfo, Worker
from taskstore.testing import LiveServer

EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="module", autouse=True)
def provider() -> Iterator[None]:
    """A provider can be set once in a process, so it is put back by hand."""
    before = trace._TRACER_PROVIDER
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace._TRACER_PROVIDER = provider
    yield
    trace._TRACER_PROVIDER = before


@pytest.mark.parametrize("is_async", [False, True])
def test_each_handler_is_a_span(server: LiveServer, is_async: bool) -> None:
    EXPORTER.clear()
    inner: list[bool] = []

    def handle(task: TaskInfo) -> None:
        inner.append(trace.get_current_span().is_recording())
        if task.data == "bad":
            raise ValueError("no")

    async def handle_async(task: TaskInfo) -> None:
        handle(task)

    async def run() -> Progress:
        async with AsyncHTTPClient(server.url) as client:
            return await AsyncWorker(client, "g", handle_async, max_attempts=1).run(until_empty=True)

    with HTTPClient(server.url) as client:
        client.update(adds=[TaskInfo("g", "good é"), TaskInfo("g", "bad")])
        if is_async:
            asyncio.run(run())
        else:
            Worker(client, "g", handle, max_attempts=1).run(until_empty=True)
    assert inner == [True, True]
    spans = {(span.attributes or {})["taskstore.outcome" if span.status.is_ok else "error.type"]: span
             for span in EXPORTER.get_finished_spans()}  # fmt: skip
    good, bad = spans["done"], spans["ValueError"]
    assert (good.name, good.kind, good.status.status_code) == ("process g", SpanKind.CONSUMER, StatusCode.UNSET)
    attributes = dict(good.attributes or {})
    assert int(str(attributes.pop("messaging.message.id"))) > 2
    assert attributes == {
        "messaging.system": "taskstore",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "g",
        "messaging.message.body.size": 7,
        "messaging.client.id": str(ID()),
        "taskstore.task.attempts": 1,
        "taskstore.outcome": "done",
    }
    assert (bad.status.status_code, bad.status.description) == (StatusCode.ERROR, "ValueError: no")
    assert [event.name for event in bad.events] == ["exception"]


WITHOUT = """
import sys
{before}
from taskstore import ID
from taskstore.worker.tracing import Tracing, _UNTRACED
assert Tracing(ID()).task(None) is _UNTRACED
assert ("opentelemetry.sdk" in sys.modules) is False
"""


@pytest.mark.parametrize("before", ["", "sys.modules['opentelemetry'] = None"], ids=["no provider", "not installed"])
def test_without_it_nothing_happens(before: str) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT.format(before=before)], check=True)
