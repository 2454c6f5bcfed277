"""What the clients of a store do next: mixed work by chance, a tenth of it hostile.

One load serves all clients. It remembers what they were told, so that most requests concern tasks that exist, and
gives every task data of its own, which the judge relies on. A load without attempts to steal would not notice a store
that does not check who owns what; so there is every kind of them.
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Final

from taskstore.server.messages import Claim, Step, Task, TaskAdd, TaskUpdate, Update
from trials.history import Call, Listing, Read, Request

HOSTILE: Final = 0.1
"""The part of the requests that try what they must not."""
FAR: Final = 10**15
"""An id that no load comes to."""


class Load:
    """A mix of requests.

    Args:
        rng: Chance.
        clients: The client ids.
        now: What the store's clock says, more or less.
        tick: A short time in nanoseconds: leases and delays are of 0 to some 20 of them.
        groups: How many groups there are.
        size: About how many tasks the store is to hold.
        wait_ns: How long some claims wait for a task.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        clients: range,
        now: Callable[[], int],
        tick: int,
        groups: int,
        size: int,
        wait_ns: int = 0,
    ) -> None:
        self.rng = rng
        self.clients = clients
        self.groups = [f"g{number}" for number in range(groups)]
        self._now = now
        self._tick = tick
        self._size = size
        self._wait_ns = wait_ns
        self._known: dict[int, Task] = {}
        self._ids: dict[str, int] = {}
        self._gone: deque[int] = deque([FAR], maxlen=50)
        self._tags = 0

    def request(self, client: int) -> Request:
        """What a client asks next."""
        if self.rng.random() < HOSTILE:
            return self.rng.choice(self._hostile)(self, client)
        is_full = self.rng.random() * 2 * self._size < len(self._known)
        kinds = self._when_full if is_full else self._when_empty
        return self.rng.choice(kinds)(self, client)

    def learn(self, call: Call) -> None:
        """Remember what a call was told."""
        for id in call.consumed if call.was_applied else ():
            self._forget(id)
        for task in call.made:
            if task.data in self._ids:
                self._forget(self._ids[task.data])
            self._remember(task)
        if isinstance(call.request, Listing) and call.request.group is None and isinstance(call.answer, list):
            self._known.clear()
            self._ids.clear()
            for task in filter(None, call.answer):
                self._remember(task)

    def _remember(self, task: Task) -> None:
        self._known[task.id] = task
        self._ids[task.data] = task.id

    def _forget(self, id: int) -> None:
        if task := self._known.pop(id, None):
            self._ids.pop(task.data, None)
            self._gone.append(id)

    # What honest clients do

    def _add(self, client: int) -> Request:
        return Update(client, [self._new() for _ in range(self.rng.choice((1, 1, 1, 2, 5)))])

    def _claim(self, client: int) -> Request:
        depends = self._some() if self.rng.random() < 0.1 else None
        return self._claim_of(client, depends)

    def _finish(self, client: int) -> Request:
        """Delete what one has leased, and add what comes next."""
        done = self._mine(client)
        next_ones = [self._new() for _ in range(self.rng.choice((0, 0, 1, 2)))]
        return Update(client, next_ones, None, done, self._some() if self.rng.random() < 0.2 else None)

    def _go_on(self, client: int) -> Request:
        """Finish, and claim what is next, in one step."""
        update = self._finish(client)
        assert isinstance(update, Update)
        return Step(update, self._claim_of(client, self._some() if self.rng.random() < 0.1 else None, wait_ns=0))

    def _change(self, client: int) -> Request:
        """Renew a lease, or give it back."""
        return Update(client, updates=[self._changed(id) for id in self._mine(client)])

    def _much(self, client: int) -> Request:
        """Several of everything in one step."""
        ids = self._mine(client, 6)
        split = self.rng.randint(0, len(ids))
        adds = [self._new() for _ in range(self.rng.randint(0, 6))]
        return Update(client, adds, [self._changed(id) for id in ids[:split]], ids[split:] * 2, self._some() * 2)

    def _read(self, _client: int) -> Request:
        ids = [*self._some(3), *self.rng.sample(list(self._gone), 1)]
        return Read(tuple(ids))

    def _list(self, _client: int) -> Request:
        return Listing(self._group())

    def _lean(self, client: int) -> Request:
        """Delete one task if another one exists, as somebody else does the other way round at the same time."""
        oldest = list(self._known)[:4]
        self.rng.shuffle(oldest)
        return Update(client, deletes=oldest[:1], depends=oldest[1:2])

    # What others do

    def _steal(self, client: int) -> Request:
        """Take what another one has leased."""
        others = [id for id, task in self._known.items() if task.owner != client and task.available > self._now()]
        ids = self._chosen(others, 2)
        return Update(client, deletes=ids) if self.rng.random() < 0.5 else Update(client, updates=self._all(ids))

    def _repeat(self, client: int) -> Request:
        """Use ids that were consumed, in any place, together with ones that exist, and with adds."""
        gone = self.rng.sample(list(self._gone), 1)
        match self.rng.randrange(4):
            case 0:
                return Update(client, [self._new()], deletes=[*gone, *self._mine(client)])
            case 1:
                return Update(client, [self._new()], updates=self._all([*self._mine(client), *gone]))
            case 2:
                return Update(client, [self._new()], deletes=self._mine(client), depends=[*self._some(), *gone])
            case _:
                claim = self._claim_of(client, [*self._some(), *gone])
                return self.rng.choice((claim, Step(Update(client, [self._new()]), claim)))

    def _guess(self, client: int) -> Request:
        """Name ids that nobody has been told of, mostly one that is just about to be given out."""
        coming = max(self._known, default=0) + self.rng.randint(1, 3)
        ids = [self.rng.choice((coming, coming, coming, coming, 0, -1, FAR))]
        match self.rng.randrange(6):
            case 0:
                return Read((*ids,))
            case 1:
                return Update(client, [self._new()], depends=ids)
            case 2:
                return Update(client, updates=self._all(ids))
            case _:
                return Update(client, deletes=ids)

    def _pretend(self, _client: int) -> Request:
        """Act under the id of another client, which is public."""
        return self.rng.choice((self._finish, self._change, self._claim))(self.rng.choice(self.clients))

    def _contradict(self, client: int) -> Request:
        ids = self._some(2)
        if self.rng.random() < 0.5:
            return Update(client, [self._new()], updates=self._all(ids * 2))
        return Update(client, [self._new()], updates=self._all(ids), deletes=ids[:1])

    _hostile = (_steal, _steal, _repeat, _repeat, _guess, _guess, _guess, _pretend, _contradict)
    _when_empty = (_add, _add, _claim, _claim, _finish, _go_on, _change, _much, _read, _list)
    _when_full = (_claim, _claim, _finish, _finish, _go_on, _change, _much, _lean, _read, _list)

    # Of what they are made

    def _tag(self) -> str:
        self._tags += 1
        return f"d{self._tags}"

    def _group(self) -> str:
        return self.rng.choice(self.groups)

    def _new(self) -> TaskAdd:
        return TaskAdd(self._group(), self._tag(), self._timespec())

    def _changed(self, id: int) -> TaskUpdate:
        return TaskUpdate(id, self._tag(), self._timespec())

    def _all(self, ids: list[int]) -> list[TaskUpdate]:
        return [self._changed(id) for id in ids]

    def _claim_of(self, client: int, depends: list[int] | None, *, wait_ns: int | None = None) -> Claim:
        """A claim, mostly of one task of one group."""
        limit = self.rng.choice((1, 1, 1, 2, 4))
        wait = self.rng.choice((0, 0, 0, self._wait_ns)) if wait_ns is None else wait_ns
        if self.rng.random() < 0.8:
            return Claim(client, self._group(), self._duration(), depends, limit=limit, wait=wait)
        groups = self.rng.sample(self.groups, 2)
        return Claim(client, duration=self._duration(), depends=depends, groups=groups, limit=limit, wait=wait)

    def _timespec(self) -> int:
        """Mostly now or soon, sometimes an instant."""
        if self.rng.random() < 0.1:
            return max(1, self._now() + self.rng.randint(-5, 5) * self._tick)
        return -self.rng.choice((0, 0, 0, 1, 2, 5)) * self._tick

    def _duration(self) -> int:
        return self.rng.choice((0, 1, 2, 5, 20)) * self._tick

    def _some(self, most: int = 1) -> list[int]:
        return self._chosen(list(self._known), most)

    def _mine(self, client: int, most: int = 2) -> list[int]:
        """Tasks that the client may change, as far as one knows: its own, and those whose time has come."""
        now = self._now()
        own = [id for id, task in self._known.items() if task.owner == client and task.available > now]
        ids = own or [id for id, task in self._known.items() if task.available <= now]
        # The newest is of interest: once it is gone, what is left does not tell which ids were given out.
        return [max(ids)] if ids and self.rng.random() < 0.2 else self._chosen(ids, most)

    def _chosen(self, ids: list[int], most: int) -> list[int]:
        return self.rng.sample(ids, min(len(ids), self.rng.randint(1, most)))
