"""The catalogue of broken servers: our own, with one fault each, and the rule that is meant to catch it.

A fault is what somebody who writes a server may well get wrong. Most are planted in what the server is asked or
answers (tampering.py), the others in its rules.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import pytest
from tampering import Call, Reply, tamper

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]
SECOND = 10**9
NO_TASK: dict[str, Any] = {"tasks": [], "error": None}


class Fault(NamedTuple):
    """A fault, and the rules that have to catch it."""

    name: str
    plant: Plant
    rules: tuple[str, ...]
    tick_ns: int
    """How coarse the server's clock is."""
    level: str
    """The level at which it shows."""
    tries: int
    """How often its rules are tried, each time with another seed, until it shows."""


FAULTS: dict[str, Fault] = {}


def fault(*caught_by: str, tick_ns: int = 1, level: str = "core", tries: int = 1) -> Callable[[Plant], Plant]:
    """Enter a fault into the catalogue."""

    def enter(plant: Plant) -> Plant:
        name = plant.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, plant, caught_by, tick_ns, level, tries)
        return plant

    return enter


def changing_tasks(patch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], object], *operations: str) -> None:
    """Tamper with each task in the answers of the operations, or in all answers."""

    def after(call: Call, reply: Reply) -> None:
        if reply.status != 200 or (operations and call.operation not in operations):
            return
        content = reply.json
        tasks = content if isinstance(content, list) else content.get("tasks", [content]) if content else []
        for task in tasks:
            if isinstance(task, dict) and "id" in task:
                change(task)
        reply.json = content

    tamper(patch, after=after)


def changing_request(patch: pytest.MonkeyPatch, operation: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Tamper with what an update or a claim asks for."""

    def before(call: Call) -> None:
        if call.operation == operation and (content := call.content):
            change(content)
            call.content = content

    tamper(patch, before=before)


def changing_error(patch: pytest.MonkeyPatch, change: Callable[[Call, dict[str, Any]], object]) -> None:
    """Tamper with what a refusal says; `change` gives the error that is told instead, or None."""

    def after(call: Call, reply: Reply) -> None:
        if reply.is_update and (content := reply.json)["error"]:
            content["error"] = change(call, content["error"])
            reply.json = content

    tamper(patch, after=after)


def described(name: str) -> str:
    """A fault in a sentence."""
    return " ".join((FAULTS[name].plant.__doc__ or "").split())
