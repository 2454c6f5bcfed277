"""The client, in two colours: what an application calls.

The laws of this room: a method builds its call (`wire`), sends it (`transport`), and does nothing else; the two classes
have the same methods with the same signatures and differ only by `await`; what a method does is written on the blocking
one.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Self

from taskstore import wire
from taskstore.dialect import Dialect
from taskstore.identity import ID
from taskstore.lease import AsyncLease, Lease, async_lease, lease
from taskstore.model import Duration, GroupRef, Stats, Step, TaskInfo, TaskRef, checked_client_id
from taskstore.transport import RETRY, AsyncHTTP, AsyncSender, Auth, Retry, Sender, SyncHTTP, Timeout, Transport


class HTTPClient:
    """A task store, reached over HTTP.

    A client keeps connections open: make one for the program, close it at the end, or use it in a `with` statement.
    Any number of threads may use it at the same time, and it works on in a forked child, with connections and a client
    id of the child's own.

    A call that fails because the server or the network is away for a moment is repeated, for up to `retry`. A change
    is repeated under an idempotency key, so that the store makes it once, however often it is asked to and whichever
    answers are lost; where the server knows no such keys, only if it has certainly not been made. A claim is never
    repeated after its lease would have ended.

    Every method takes `timeout` and `retry`, which for that call replace the client's own. It raises, beside what it
    names itself:
    `UsageError` if an argument makes no sense, `NotSentError` without a connection, `OutcomeUnknownError` without a
    complete answer, `HTTPError` for another status than 200, `AnswerError` for an answer that does not fit the
    contract. All of them are a `TaskStoreError`, and their `applied` tells whether anything may have been changed.

    Args:
        base_url: Where the store is, such as `https://tasks.example.com/prefix`. By default that of `http_client`, or
            else what the environment variable `TASKSTORE_URL` says, or else `http://127.0.0.1:8048`.
        client_id: Who this client is to the store, an int32. By default `ID()`, the identity of the process. Clients
            with the same id may change each other's leased tasks.
        timeout: How long to wait for each step of a call: for a connection, for sending, for the answer to begin, and
            for all of it. A `timedelta` or an integer number of nanoseconds; None means for ever. By default 30
            seconds, or what `http_client` has.
        retry: For how long after its first failure a call may be repeated, with pauses that grow. A `timedelta` or an
            integer number of nanoseconds; 0 or None means that nothing is repeated.
        headers: Sent with every request.
        auth: A token (sent as `Authorization: Bearer ...`), a pair of user and password, or what else httpx takes.
        http_client: An `httpx.Client` to send with, for proxies, certificates and the like. It is not closed with this
            client, and cannot be used in a forked child.
        transport: What sends: "httpx", or "fast", which is several times faster (`pip install 'taskstore[fast]'`) and
            does what matters in the same way. It knows no proxies, no HTTP/2 and no compression, and takes neither
            `http_client` nor an `auth` other than a token or a pair.
        dialect: How the server wants to be spoken to: "json", as the contract says, or "go" for the original Go server.
            That one knows `update`, `groups` and `claim` of one group, one task and no wait; a `UsageError` says so of
            the rest. It answers `task`, `tasks` and `group` with status 400 always, and as it knows no idempotency keys
            only what has certainly not been carried out is repeated.

    Raises:
        UsageError: An argument makes no sense.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        client_id: int | None = None,
        timeout: Timeout = ...,
        retry: Duration | None = RETRY,
        headers: Mapping[str, str] | None = None,
        auth: Auth | None = None,
        http_client: SyncHTTP | None = None,
        transport: Transport = "httpx",
        dialect: Dialect = "json",
    ) -> None:
        self._client_id = None if client_id is None else checked_client_id(client_id)
        self._sender = Sender(
            base_url,
            timeout=timeout,
            retry=retry,
            headers=headers,
            auth=auth,
            http_client=http_client,
            transport=transport,
            dialect=dialect,
        )

    @property
    def client_id(self) -> int:
        """Who this client is to the store: the owner of what it adds, changes and claims."""
        return ID() if self._client_id is None else self._client_id

    def claim(
        self,
        group: GroupRef,
        duration: Duration,
        depends: Iterable[TaskRef] = (),
        *,
        wait: Duration = 0,
        timeout: Timeout = ...,
        retry: Retry = ...,
    ) -> TaskInfo | None:
        """Take one of the group's available tasks, at random, under a lease.

        Until the lease has run out nobody else can claim, change or delete the task. It then is simply available again.

        Args:
            group: The group's name; or several names, of which one that has something is chosen at random.
            duration: How long the lease shall last from the server's now, a `timedelta` or integer nanoseconds.
            depends: Tasks, or ids, that have to exist, or nothing is claimed.
            wait: For how long to wait for a task if there is none, up to an hour; the timeout counts on top of it. A
                server of the original protocol does not wait.
            timeout: In place of the client's own.
            retry: In place of the client's own.

        Returns:
            The task, under a new id; or None if there was none.

        Raises:
            TaskResponseError: A task of `depends` does not exist.
        """
        return self._sender.send(
            wire.claim(self.client_id, group, duration, depends, wait=wait, key=self._sender.key(retry)), timeout, retry
        )

    def claim_batch(
        self,
        group: GroupRef,
        duration: Duration,
        limit: int,
        depends: Iterable[TaskRef] = (),
        *,
        wait: Duration = 0,
        timeout: Timeout = ...,
        retry: Retry = ...,
    ) -> list[TaskInfo]:
        """Take several tasks at once, in one step; otherwise like `claim`.

        Args:
            group: The group's name, or several names.
            duration: How long each lease shall last.
            limit: At most this many tasks, from 1 to 10,000. There may be fewer, even if the store has more; a server
                of the original protocol gives one.
            depends: Tasks, or ids, that have to exist, or nothing is claimed.
            wait: For how long to wait for the first task if there is none.
            timeout: In place of the client's own.
            retry: In place of the client's own.

        Returns:
            The tasks, under new ids; an empty list if there was none.

        Raises:
            TaskResponseError: A task of `depends` does not exist.
        """
        call = wire.claim_batch(self.client_id, group, duration, limit, depends, wait=wait, key=self._sender.key(retry))
        return self._sender.send(call, timeout, retry)

    def group(
        self, name: str, limit: int = 0, owned: bool = False, *, timeout: Timeout = ..., retry: Retry = ...
    ) -> list[TaskInfo]:
        """The tasks of a group that are available, in the order in which they have become so.

        Args:
            name: The group's name. A group that has no tasks is an empty list.
            limit: At most this many; 0 means all.
            owned: Whether to list also what is claimed or delayed.
            timeout: In place of the client's own.
            retry: In place of the client's own.
        """
        return self._sender.send(wire.group(name, limit, owned), timeout, retry)

    def groups(self, *, timeout: Timeout = ..., retry: Retry = ...) -> list[str]:
        """The names of all groups that have a task, be it available or not."""
        return self._sender.send(wire.groups(), timeout, retry)

    def lease(
        self, group: GroupRef, duration: Duration, depends: Iterable[TaskRef] = (), *, wait: Duration = 0
    ) -> AbstractContextManager[Lease | None]:
        """Work on a task while its lease is kept alive: for use in a `with` statement.

            with client.lease("resize", timedelta(seconds=30)) as lease:
                if lease is not None:
                    small = shrunk(lease.task.data)
                    lease.commit(adds=[TaskInfo("publish", small)])

        A thread renews the lease whenever a third of it has passed. `lease.commit` deletes the task together with all
        that it is given, in one update. A block that ends without it, by an exception or otherwise, gives the task
        back, so that anybody can claim it at once. If the lease is lost all the same, because this process or the
        network hung, `lease.lost` is set, and `lease.check` and `lease.commit` raise `LeaseLostError`.

        Args:
            group: The group's name, or several names.
            duration: How long to hold the task at first, and with each renewal; so this is how long the task is stuck
                when this process dies, and not how long the work may take.
            depends: Tasks, or ids, that have to exist, or nothing is claimed.
            wait: For how long to wait for a task if there is none; as long as you like.

        Returns:
            What `with` makes a `Lease`, or None if there was no task.
        """
        return lease(self, group, duration, depends, wait=wait)

    def task(self, id: TaskRef, *, timeout: Timeout = ..., retry: Retry = ...) -> TaskInfo | None:
        """The task with this id, or None: no task has it, any more or yet."""
        return self._sender.send(wire.task(id), timeout, retry)

    def tasks(self, *ids: TaskRef, timeout: Timeout = ..., retry: Retry = ...) -> list[TaskInfo | None]:
        """The tasks with these ids, in their order, and None where there is none.

        Some hundreds of ids are read at one instant. More are asked for in parts, one after the other; `timeout` is
        for each of them.
        """
        return [task for call in wire.tasks(ids) for task in self._sender.send(call, timeout, retry)]

    def stats(self, prefix: str = "", limit: int = 0, *, timeout: Timeout = ..., retry: Retry = ...) -> Stats:
        """How many tasks there are, group by group and in all, and what the server has done since it started.

        Args:
            prefix: Only groups whose name begins so.
            limit: At most this many groups; 0 means all.
            timeout: In place of the client's own.
            retry: In place of the client's own.
        """
        return self._sender.send(wire.stats(prefix, limit), timeout, retry)

    def step(
        self,
        adds: Iterable[TaskInfo] = (),
        updates: Iterable[TaskInfo] = (),
        deletes: Iterable[TaskRef] = (),
        depends: Iterable[TaskRef] = (),
        *,
        group: GroupRef | None = None,
        duration: Duration | None = None,
        limit: int = 1,
        wait: Duration = 0,
        claim_depends: Iterable[TaskRef] = (),
        timeout: Timeout = ...,
        retry: Retry = ...,
    ) -> Step:
        """Finish what was done and claim what comes next: an `update`, then a `claim_batch`, in one atomic step.

        Where either is refused, neither happens. The claim sees what the update has made. With `wait`, the update is
        made at once and only the claim waits.

        Args:
            adds: New tasks.
            updates: Tasks as they shall be from now on.
            deletes: Tasks, or ids, to delete.
            depends: Tasks, or ids, that have to exist.
            group: The name, or names, of what to claim from; None claims nothing.
            duration: How long each lease shall last; needed with a group.
            limit: At most this many tasks are claimed.
            wait: For how long to wait for the first of them if there is none.
            claim_depends: Tasks, or ids, that have to exist once the update is made.
            timeout: In place of the client's own.
            retry: In place of the client's own.

        Returns:
            The claimed tasks, and the new tasks of the update.

        Raises:
            TaskResponseError: As for `update` and `claim`; nothing has changed, and nothing was claimed.
        """
        call = wire.step(
            self.client_id,
            (adds, updates, deletes, depends),
            groups=group,
            duration=duration,
            limit=limit,
            wait=wait,
            depends=claim_depends,
            key=self._sender.key(retry),
        )
        return self._sender.send(call, timeout, retry)

    def update(
        self,
        adds: Iterable[TaskInfo] = (),
        updates: Iterable[TaskInfo] = (),
        deletes: Iterable[TaskRef] = (),
        depends: Iterable[TaskRef] = (),
        *,
        timeout: Timeout = ...,
        retry: Retry = ...,
    ) -> list[TaskInfo]:
        """Add, change and delete tasks in one step, in which all of it happens or nothing.

        Args:
            adds: New tasks. Their group, data and timespec count.
            updates: Tasks as they shall be from now on, made by `task.replace(...)`. Their id, data and timespec count.
            deletes: Tasks, or ids, to delete.
            depends: Tasks, or ids, that have to exist, or nothing happens.
            timeout: In place of the client's own.
            retry: In place of the client's own.

        Returns:
            The new tasks, all owned by this client: one for each of `adds`, then one for each of `updates`. The ids
            that were changed or deleted are gone for ever.

        Raises:
            TaskResponseError: A task does not exist (any more), or is under the lease of another client. It names
                them all, and nothing has changed.
        """
        return self._sender.send(
            wire.update(self.client_id, adds, updates, deletes, depends, key=self._sender.key(retry)), timeout, retry
        )

    def close(self) -> None:
        """Close the connections. Afterwards every call is a `UsageError`; closing once more does nothing."""
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"HTTPClient({self._sender.base_url!r}, client_id={self.client_id})"


class AsyncHTTPClient:
    """Async twin of `HTTPClient`: a task store, reached over HTTP, by methods to be awaited.

    It takes the same arguments, save that `http_client` is an `httpx.AsyncClient`. Any number of tasks of one asyncio
    event loop may use it at the same time; another loop needs a client of its own.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        client_id: int | None = None,
        timeout: Timeout = ...,
        retry: Duration | None = RETRY,
        headers: Mapping[str, str] | None = None,
        auth: Auth | None = None,
        http_client: AsyncHTTP | None = None,
        transport: Transport = "httpx",
        dialect: Dialect = "json",
    ) -> None:
        self._client_id = None if client_id is None else checked_client_id(client_id)
        self._sender = AsyncSender(
            base_url,
            timeout=timeout,
            retry=retry,
            headers=headers,
            auth=auth,
            http_client=http_client,
            transport=transport,
            dialect=dialect,
        )

    @property
    def client_id(self) -> int:
        """As with `HTTPClient`: who this client is to the store."""
        return ID() if self._client_id is None else self._client_id

    async def claim(
        self,
        group: GroupRef,
        duration: Duration,
        depends: Iterable[TaskRef] = (),
        *,
        wait: Duration = 0,
        timeout: Timeout = ...,
        retry: Retry = ...,
    ) -> TaskInfo | None:
        """Async twin of `HTTPClient.claim`."""
        return await self._sender.send(
            wire.claim(self.client_id, group, duration, depends, wait=wait, key=self._sender.key(retry)), timeout, retry
        )

    async def claim_batch(
        self,
        group: GroupRef,
        duration: Duration,
        limit: int,
        depends: Iterable[TaskRef] = (),
        *,
        wait: Duration = 0,
        timeout: Timeout = ...,
        retry: Retry = ...,
    ) -> list[TaskInfo]:
        """Async twin of `HTTPClient.claim_batch`."""
        call = wire.claim_batch(self.client_id, group, duration, limit, depends, wait=wait, key=self._sender.key(retry))
        return await self._sender.send(call, timeout, retry)

    async def group(
        self, name: str, limit: int = 0, owned: bool = False, *, timeout: Timeout = ..., retry: Retry = ...
    ) -> list[TaskInfo]:
        """Async twin of `HTTPClient.group`."""
        return await self._sender.send(wire.group(name, limit, owned), timeout, retry)

    async def groups(self, *, timeout: Timeout = ..., retry: Retry = ...) -> list[str]:
        """Async twin of `HTTPClient.groups`."""
        return await self._sender.send(wire.groups(), timeout, retry)

    def lease(
        self, group: GroupRef, duration: Duration, depends: Iterable[TaskRef] = (), *, wait: Duration = 0
    ) -> AbstractAsyncContextManager[AsyncLease | None]:
        """Async twin of `HTTPClient.lease`, for `async with`. If the lease is lost, the block is cancelled.

        To whoever is outside of the block that looks like an exception of it: a `LeaseLostError`.
        """
        return async_lease(self, group, duration, depends, wait=wait)

    async def task(self, id: TaskRef, *, timeout: Timeout = ..., retry: Retry = ...) -> TaskInfo | None:
        """Async twin of `HTTPClient.task`."""
        return await self._sender.send(wire.task(id), timeout, retry)

    async def tasks(self, *ids: TaskRef, timeout: Timeout = ..., retry: Retry = ...) -> list[TaskInfo | None]:
        """Async twin of `HTTPClient.tasks`."""
        return [task for call in wire.tasks(ids) for task in await self._sender.send(call, timeout, retry)]

    async def stats(self, prefix: str = "", limit: int = 0, *, timeout: Timeout = ..., retry: Retry = ...) -> Stats:
        """Async twin of `HTTPClient.stats`."""
        return await self._sender.send(wire.stats(prefix, limit), timeout, retry)

    async def step(
        self,
        adds: Iterable[TaskInfo] = (),
        updates: Iterable[TaskInfo] = (),
        deletes: Iterable[TaskRef] = (),
        depends: Iterable[TaskRef] = (),
        *,
        group: GroupRef | None = None,
        duration: Duration | None = None,
        limit: int = 1,
        wait: Duration = 0,
        claim_depends: Iterable[TaskRef] = (),
        timeout: Timeout = ...,
        retry: Retry = ...,
    ) -> Step:
        """Async twin of `HTTPClient.step`."""
        call = wire.step(
            self.client_id,
            (adds, updates, deletes, depends),
            groups=group,
            duration=duration,
            limit=limit,
            wait=wait,
            depends=claim_depends,
            key=self._sender.key(retry),
        )
        return await self._sender.send(call, timeout, retry)

    async def update(
        self,
        adds: Iterable[TaskInfo] = (),
        updates: Iterable[TaskInfo] = (),
        deletes: Iterable[TaskRef] = (),
        depends: Iterable[TaskRef] = (),
        *,
        timeout: Timeout = ...,
        retry: Retry = ...,
    ) -> list[TaskInfo]:
        """Async twin of `HTTPClient.update`."""
        return await self._sender.send(
            wire.update(self.client_id, adds, updates, deletes, depends, key=self._sender.key(retry)), timeout, retry
        )

    async def aclose(self) -> None:
        """Async twin of `HTTPClient.close`."""
        await self._sender.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncHTTPClient({self._sender.base_url!r}, client_id={self.client_id})"
