"""The coordinator: plans the map tasks, watches, kills one worker, merges, and compares with `collections.Counter`.

The laws of this room: it does no task itself; it learns what happens from the store only; what it has started or put
into a store that is not its own, it takes away again.
"""

import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import attrs

from taskstore.client import HTTPClient
from taskstore.demo import show, timeline, words
from taskstore.demo.groups import IDLE_S, Entry, Groups, Held, Order, Story
from taskstore.demo.processes import Crew, embedded_server
from taskstore.errors import TaskResponseError, TaskStoreError, UsageError
from taskstore.model import TaskInfo

POLL_S: Final = 0.05
"""How often the coordinator looks at the log."""
BATCH: Final = 1000
"""How many tasks are listed, added or deleted at a time; an update takes 10,000."""


@attrs.frozen
class Settings:
    """What the demo is to do."""

    paths: Sequence[str] = ()
    """Files and directories to count; the standard library if empty."""
    workers: int = 4
    lease_ns: int = 2 * 10**9
    kill: bool = True
    url: str | None = None
    """A server that runs already; None for one of its own."""
    token: str | None = None
    """What the server at `url` asks for."""
    svg: str = "demo-timeline.svg"

    @property
    def shards(self) -> int:
        """How many parts the words are split into, each with a reduce task of its own."""
        return 2 * self.workers


def run(settings: Settings) -> int:
    """Run the demo; 0 if all counts are exact, 1 if not.

    Raises:
        TaskStoreError: it could not be carried through; the message says why.
    """
    started = time.monotonic()
    files = words.input_files(settings.paths)
    chunks = words.chunks(files, at_least=8 * settings.workers)
    if Path(settings.svg).is_dir() or not os.access(Path(settings.svg).parent, os.W_OK):
        raise UsageError(f"cannot write {settings.svg}: name another file with --svg")
    screen = show.screen()
    screen.say(show.plan(files, chunks, settings.workers, settings.shards))
    with screen:
        counted, story = _carry_out(settings, chunks, screen)
    screen.say("Counting the same files with collections.Counter, to compare ...")
    wrong = words.differences(counted, words.count_files(files))
    Path(settings.svg).write_text(timeline.drawn(story), encoding="utf-8")
    screen.say(*show.top_words(counted, show.width(), sys.stdout.encoding))
    screen.say(*show.told(story, show.width()))
    screen.say(f"Done in {time.monotonic() - started:.1f} s. Who held what when is drawn in {settings.svg}")
    screen.say(*show.verdict(counted, wrong))
    return 1 if wrong else 0


def _carry_out(settings: Settings, chunks: Sequence[str], screen: show.Screen) -> tuple[Counter[str], Story]:
    """Count `chunks` with everything that takes: a server, workers, and tidying up after them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskstore-demo-")))
        url = settings.url or stack.enter_context(embedded_server(folder))
        token = settings.token if settings.url else None
        client = stack.enter_context(HTTPClient(url, auth=token))
        client.groups(retry=None)  # If this address answers nothing, or something else, say so at once.
        groups = Groups(f"demo-{secrets.token_hex(4)}")
        if settings.url:
            stack.callback(_purge, client, groups, settings.lease_ns)
        orders = {
            number: Order(url, groups.prefix, number, settings.lease_ns, settings.shards, os.getpid())
            for number in range(1, settings.workers + 1)
        }
        screen.say(f"Store: {url}, {f'groups {groups.prefix}/...' if settings.url else 'in a temporary directory'}")
        crew = stack.enter_context(Crew(orders, folder, token))
        coordinator = Coordinator(client, groups, crew, settings, screen)
        return coordinator.carry_out(chunks)


def _purge(client: HTTPClient, groups: Groups, lease_ns: int) -> None:
    """Delete all that is left of a run in somebody else's store; what is under a lease as soon as that runs out."""
    deadline = time.monotonic() + lease_ns / 10**9 + 10
    while left := [name for name in client.groups() if name.startswith(f"{groups.prefix}/")]:
        if time.monotonic() > deadline:
            raise TaskStoreError(f"could not delete all tasks of the groups {', '.join(left)}")
        for name in left:
            with suppress(TaskResponseError):  # Somebody was quicker, and the next round sees what is left.
                client.update(deletes=client.group(name, limit=BATCH))
        time.sleep(IDLE_S)


class Coordinator:
    """One run over a store and a crew."""

    def __init__(self, client: HTTPClient, groups: Groups, crew: Crew, settings: Settings, screen: show.Screen) -> None:
        self._client: Final = client
        self._groups: Final = groups
        self._crew: Final = crew
        self._settings: Final = settings
        self._screen: Final = screen
        self._numbers: Final[dict[int, int]] = {}  # of the workers, by their client ids
        self._held: Final[list[Held]] = []
        self._explained: Final[set[int]] = set()  # workers that have ended, and it was said why
        self._kill: TaskInfo | None = None  # the task in the group `kill`, until somebody was killed
        self._doomed: TaskInfo | None = None  # the map task whose holder shall be killed

    @property
    def _story(self) -> Story:
        return Story(self._settings.workers, self._settings.lease_ns, tuple(self._held))

    def carry_out(self, chunks: Sequence[str]) -> tuple[Counter[str], Story]:
        """Have all chunks counted, and sum up."""
        while len(self._numbers) < self._settings.workers:
            time.sleep(IDLE_S)
            self._look_after(len(self._crew.alive()) == self._settings.workers)
            self._read_log()
        run = self._plan(chunks)
        while self._story.count("reduce") < self._settings.shards:
            time.sleep(POLL_S)
            self._read_log()
            self._strike()
            self._look_after(bool(self._crew.alive()))
            self._screen.progress(self._story, len(chunks), self._settings.shards)
        counted: Counter[str] = Counter()
        for shard in range(self._settings.shards):
            results = self._client.group(self._groups.result(shard), owned=True)
            counted += words.summed(task.data for task in results)
        self._client.update(deletes=[run])
        self._crew.wait()
        return counted, self._story

    def _plan(self, chunks: Sequence[str]) -> TaskInfo:
        """Add all map tasks, and last, in one update, what lets the run begin; returns the task `run`."""
        groups = self._groups
        added: list[TaskInfo] = []
        for start in range(0, len(chunks), BATCH):
            batch = [TaskInfo(groups.map, chunk) for chunk in chunks[start : start + BATCH]]
            added += self._client.update(adds=batch)
        tokens = [TaskInfo(groups.reduce, str(shard)) for shard in range(self._settings.shards)]
        last = [TaskInfo(groups.run)]
        if self._settings.kill:
            self._doomed = added[len(added) // 3]
            last.append(TaskInfo(groups.kill, self._doomed.data))
        run, *kill = self._client.update(adds=[*tokens, *last])[len(tokens) :]
        self._kill = kill[0] if kill else None
        return run

    def _read_log(self) -> None:
        entries = self._client.group(self._groups.log, limit=BATCH)
        if entries:
            self._client.update(deletes=entries)
        for task in sorted(entries, key=lambda task: task.id):
            held = Held.of(task)
            if held.kind == "ready":
                self._numbers[task.owner_id] = held.worker
            else:
                self._held.append(held)

    def _strike(self) -> None:
        """Kill the worker that holds the doomed map task, as soon as one does."""
        if self._kill is None or self._doomed is None or self._client.task(self._doomed.id):
            return
        held = self._holder_of(self._doomed.data)
        if held is None or (victim := self._numbers[held.owner_id]) not in self._crew.alive():
            return
        self._crew.kill(victim)
        self._explained.add(victim)
        last = self._holder_of(self._doomed.data)
        if last and last.owner_id == held.owner_id:
            held = last  # It had renewed its lease just before it died.
        entry = Entry.about("kill", victim, held, self._settings.lease_ns).task(self._groups)
        # A claim would have given the task another id. So this update proves that the victim died as its owner. It is
        # refused if the lease ran out before; then the next one who claims the task is the one to kill.
        with suppress(TaskResponseError):
            self._client.update(adds=[entry], deletes=[self._kill], depends=[held])
            self._kill = None
            self._screen.say(*show.killing(victim, held, self._settings.lease_ns))

    def _holder_of(self, chunk: str) -> TaskInfo | None:
        tasks = self._client.group(self._groups.map, owned=True)
        return next((task for task in tasks if task.data == chunk), None)

    def _look_after(self, enough: bool) -> None:
        """Say which workers have ended that should not, and give up if not `enough` are left."""
        for number in set(range(1, self._settings.workers + 1)) - self._crew.alive() - self._explained:
            self._explained.add(number)
            self._screen.say(f"Worker {number} has ended: {self._crew.ending(number)}")
        if not enough:
            raise TaskStoreError("too few workers are left, and the demo gives up; what they said stands above")
