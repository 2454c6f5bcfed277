"""A worker of the demo, a process of its own: claims a task, does it and hands in the result, until the run is over.

The laws of this room: every outcome goes into the store in one update together with the end of the task it came from;
an update that is refused means that somebody else has the task now, so its result is dropped.
"""

import contextlib
import os
import sys
import time
from typing import Final

import attrs

from taskstore.client import HTTPClient
from taskstore.demo import words
from taskstore.demo.groups import IDLE_S, TOKEN, Entry, Groups, Kind, Order
from taskstore.errors import TaskResponseError, TaskStoreError
from taskstore.model import TaskInfo

PAGE: Final = 1000
"""How many tasks a reducer sums up in one update at first; an update takes 10,000 items."""


@attrs.define
class Worker:
    """One worker, under the client id of its client."""

    client: HTTPClient
    groups: Groups
    order: Order
    page: int = PAGE
    """How many tasks it sums up in one update; less each time that this took longer than the lease."""

    def work(self) -> None:
        """Claim and do tasks until the run is over."""
        run = self._await_run()
        kill = self.client.group(self.groups.kill)
        while os.getppid() == self.order.parent:
            try:
                task = self._claim(run)
            except TaskResponseError:
                return  # The task that says the run is on has gone.
            if task is None:
                time.sleep(IDLE_S)
            else:
                self._do(task, kill)

    def _await_run(self) -> TaskInfo:
        self.client.update(adds=[Entry("ready", self.order.number).task(self.groups)])
        while os.getppid() == self.order.parent:
            if found := self.client.group(self.groups.run):
                return found[0]
            time.sleep(IDLE_S)
        raise TaskStoreError("whoever started this worker is gone")

    def _claim(self, run: TaskInfo) -> TaskInfo | None:
        task = self.client.claim(self.groups.map, self.order.lease_ns, depends=[run])
        if task is None and not self.client.group(self.groups.map, limit=1, owned=True):
            task = self.client.claim(self.groups.reduce, self.order.lease_ns, depends=[run])
        return task

    def _do(self, task: TaskInfo, kill: list[TaskInfo]) -> None:
        try:
            if task.group == self.groups.reduce:
                self._reduce(task)
            else:
                self._map(task, kill)
        except TaskResponseError as error:
            if error.has_bugs():
                raise
            if task.group == self.groups.reduce:
                self.page = max(self.page // 2, 1)
            self.client.update(adds=[self._entry("lost", task)])

    def _map(self, task: TaskInfo, kill: list[TaskInfo]) -> None:
        counts = words.count_chunk(task.data)
        while any(task.data == one.data and self.client.task(one.id) for one in kill):
            time.sleep(IDLE_S)  # Whoever holds this chunk is to be killed holding it.
        adds = [
            TaskInfo(self.groups.shard(shard), data)
            for shard, part in words.split_by_shard(counts, self.order.shards).items()
            for data in words.written(part)
        ]
        self.client.update(adds=[*adds, self._entry("map", task)], deletes=[task])

    def _reduce(self, token: TaskInfo) -> None:
        shard = int(token.data)
        while counts := self.client.group(self.groups.shard(shard), limit=self.page, owned=True):
            total = words.summed(task.data for task in counts)
            adds = [TaskInfo(self.groups.result(shard), data) for data in words.written(total)]
            self.client.update(adds=adds, deletes=counts, depends=[token])
        self.client.update(adds=[self._entry("reduce", token)], deletes=[token])

    def _entry(self, kind: Kind, task: TaskInfo) -> TaskInfo:
        return Entry.about(kind, self.order.number, task, self.order.lease_ns).task(self.groups)


def main(text: str) -> int:
    """Work as `text`, a written order, says; returns the exit code."""
    order = Order.of(text)
    try:
        with HTTPClient(order.url, auth=os.environ.get(TOKEN)) as client, contextlib.suppress(KeyboardInterrupt):
            Worker(client, Groups(order.prefix), order).work()
    except (TaskStoreError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
