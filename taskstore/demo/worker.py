"""A worker of the demo, a process of its own: does the map tasks, then the reduce tasks, until the run is over.

The laws of this room: every outcome goes into the store in one update together with the end of the task it came from;
one that is refused means that somebody else has the task now, so it is dropped.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import Final

import attrs

from taskstore.client import HTTPClient
from taskstore.demo import words
from taskstore.demo.groups import IDLE_S, TOKEN, Entry, Groups, Kind, Order
from taskstore.errors import TaskStoreError
from taskstore.model import TaskInfo
from taskstore.worker.observers import Observer
from taskstore.worker.outcomes import Done, Outcome
from taskstore.worker.workers import Worker

PAGE: Final = 1000
"""How many tasks a reducer sums up in one update; an update takes 10,000 items."""


@attrs.define(eq=False)
class Hand(Observer):
    """One worker, under the client id of its client."""

    client: HTTPClient
    groups: Groups
    order: Order
    page: int = PAGE

    def work(self) -> None:
        """Do tasks until the run is over."""
        run = self._await_run()
        self._work_on(self.groups.map, self.map, run)
        # The group of the map tasks was seen empty, claimed ones included, so all counts stand in the shards.
        self._work_on(self.groups.reduce, self.reduce, run)

    def _await_run(self) -> TaskInfo:
        self.client.update(adds=[Entry("ready", self.order.number).task(self.groups)])
        while os.getppid() == self.order.parent:
            if found := self.client.group(self.groups.run):
                return found[0]
            time.sleep(IDLE_S)
        raise TaskStoreError("whoever started this worker is gone")

    def _work_on(self, group: str, handler: Callable[[TaskInfo], Done], run: TaskInfo) -> None:
        lease_ns = self.order.lease_ns
        worker = Worker(self.client, group, handler, lease=lease_ns, batch=1, depends=[run], observers=[self])
        worker.run(until_empty=True)

    def map(self, task: TaskInfo) -> Done:
        """Count the words of a chunk."""
        counts = words.count_chunk(task.data)
        kill = self.client.group(self.groups.kill)
        while any(task.data == one.data and self.client.task(one.id) for one in kill):
            time.sleep(IDLE_S)  # Whoever holds this chunk is to be killed holding it.
        adds = [
            TaskInfo(self.groups.shard(shard), data)
            for shard, part in words.split_by_shard(counts, self.order.shards).items()
            for data in words.written(part)
        ]
        return Done(adds=[*adds, self._entry("map", task)])

    def reduce(self, token: TaskInfo) -> Done:
        """Sum up a shard, or as much of it as fits into one update."""
        shard = int(token.data)
        counts = self.client.group(self.groups.shard(shard), limit=self.page, owned=True)
        total = words.summed(task.data for task in counts)
        adds = [TaskInfo(self.groups.result(shard), data) for data in words.written(total)]
        rest = TaskInfo(token.group, token.data) if len(counts) == self.page else self._entry("reduce", token)
        return Done(adds=[*adds, rest], deletes=counts)

    def lost(self, task: TaskInfo) -> None:
        """Tell the coordinator that this worker was too late."""
        self.client.update(adds=[self._entry("lost", task)])

    def finished(self, task: TaskInfo, outcome: Outcome, took_ns: int, error: BaseException | None) -> None:  # noqa: ARG002
        """End this process if a handler has failed, for that would happen again, and to others too."""
        if error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)

    def _entry(self, kind: Kind, task: TaskInfo) -> TaskInfo:
        return Entry.about(kind, self.order.number, task, self.order.lease_ns).task(self.groups)


def main(text: str) -> int:
    """Work as `text`, a written order, says; returns the exit code."""
    order = Order.of(text)
    try:
        with HTTPClient(order.url, auth=os.environ.get(TOKEN)) as client, contextlib.suppress(KeyboardInterrupt):
            Hand(client, Groups(order.prefix), order).work()
    except (TaskStoreError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
