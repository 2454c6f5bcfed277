"""Decides whether what clients were told can be explained by what the store promises.

The promises: each id is made once and consumed once; nothing acknowledged is lost; nothing is half applied; nothing is
owned twice; ids grow; dependencies and ownership are respected; whoever is refused is refused for what was true at
that time, all of it, and leaves no trace; time never goes back; and there is one order of all calls that explains
every answer and lets no call come before one that had returned when it was invoked (strict serializability).

Each id is made once and consumed once, so whoever saw a task came after its maker and before its consumer, and whoever
missed it came after the consumer: these arrows leave no choice, and the search for an order is linear. See `order`.

What the store's clock said is known where a call made a task: to the nanosecond, and whatever clock the clients have.
For the other calls the neighbours in real time bound it.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from taskstore.server.messages import Refusal, Step, Task, Update
from trials.history import Call, Change, Listing, Promise, Read, Violation
from trials.lives import FOREVER, Blame, Life, Lives
from trials.order import Order


def violations(history: Iterable[Call], final: Iterable[Task] | None = None) -> list[Violation]:
    """How a history breaks the promises; nothing if it keeps them.

    Args:
        history: The calls, in any order.
        final: All tasks that were in the store when all calls were over.
    """
    calls = list(history)
    if final is not None:
        end = max((call.returned or call.invoked for call in calls), default=0) + 1
        calls.append(Call("the end", Listing(None), end, end + 1, list(final)))
    return _Judge(calls).found


class _Judge:
    def __init__(self, calls: list[Call]) -> None:
        self.found: list[Violation] = []
        self.calls = calls
        self.lives = Lives(calls, self.blame)
        self.clock = _Clock(calls, self.blame)
        self.present: list[tuple[int, int]] = []
        self.absent: list[tuple[int, int]] = []
        for number, call in enumerate(calls):
            self._check(number, call)
        _Sweep(self).run()
        self._check_halves()
        self._check_consumers()
        self._check_growth()
        self._check_order()

    def blame(self, promise: Promise, what: str, *numbers: int) -> None:
        """Note that a promise was broken, how, and the numbers of the calls that show it."""
        self.found.append(Violation(promise, what, {number: self.calls[number] for number in numbers}))

    def _check(self, number: int, call: Call) -> None:
        """Hold one answer against its request, and note which tasks it shows present and absent."""
        if isinstance(call.request, Change):
            if call.error is not None:
                self._check_refusal(number, call, call.error)
            elif call.was_applied or number in self.lives.applied:
                self._check_change(number, call)
        elif isinstance(call.answer, Sequence) and isinstance(call.request, Read):
            for id, task in zip(call.request.ids, call.answer, strict=True):
                self.see(id, number, is_there=task is not None)
        elif isinstance(call.answer, Sequence):
            self.present += [(task.id, number) for task in call.answer if task]

    def _check_change(self, number: int, call: Call) -> None:
        for id in call.depends:
            self.see(id, number, is_there=True)
        if not call.was_applied:
            return
        for id in call.consumed:
            if id not in self.lives.of:
                self.see(id, number, is_there=True)
        ids = [task.id for task in call.made]
        if not self._fits_update(call) or not _fits_claim(call) or ids != sorted(set(ids)):
            self.blame(Promise.FITS, "these are not the tasks that were asked for", number)

    def _fits_update(self, call: Call) -> bool:
        update = call.update or Update(0)
        expected = [(add.group, add.data, update.client, 0) for add in update.adds or ()]
        for change in update.updates or ():
            before = self.lives.of[change.id].task if change.id in self.lives.of else call.updated[-1]
            expected.append((before.group, change.data, update.client, before.attempts))
        made = [(task.group, task.data, task.owner, task.attempts) for task in call.updated]
        return made == expected and not _contradicts(update)

    def see(self, id: int, number: int, *, is_there: bool) -> None:
        """Note that a call found a task, or did not."""
        if not is_there:
            self.miss(id, number)
        elif id in self.lives.of:
            self.present.append((id, number))
        elif not self.lives.may_be_strange(number):
            self.blame(Promise.NOWHERE, f"there never was a task {id}", number)

    def miss(self, id: int, number: int) -> None:
        """Note that a call did not find a task, and ask who had consumed it."""
        life, call = self.lives.of.get(id), self.calls[number]
        if life is None or (self.calls[life.maker].returned or FOREVER) >= call.invoked:
            return  # It may not have been there yet.
        if not life.consumers and not life.is_unsure:
            self._infer(id, life, number)
        if life.consumers:
            self.absent.append((id, number))
        elif not life.is_unsure:
            life.is_unsure = True
            self.blame(Promise.LOST, f"{id} is gone and nobody consumed it", life.maker, number)

    def _infer(self, id: int, life: Life, number: int) -> None:
        suspects = self.suspects(id, number)
        if len(suspects) > 1 or self.lives.may_be_hidden(life, number):
            life.is_unsure = True
        elif suspects:
            self.lives.apply(suspects[0])

    def suspects(self, id: int, number: int) -> list[int]:
        """Which calls without an answer can have consumed a task before call `number` ended."""
        until = self.calls[number].returned or FOREVER
        named = self.lives.namers.get(id, ())
        return [by for by in named if by not in self.lives.applied and self.calls[by].invoked < until]

    def _check_refusal(self, number: int, call: Call, error: Refusal) -> None:
        """A refusal names every culprit and nothing else, all as of one instant.

        What a step depends on has to be there before its update for one part, and after it for the other: of what the
        update itself would consume nothing follows.
        """
        update = call.update or Update(0)
        self._check_owned(number, call, error)
        named = [
            (call.depends, error.depends),
            ([change.id for change in update.updates or ()], error.changes),
            (update.deletes or (), error.deletes),
            (call.consumed, error.owned),
        ]
        if any(not set(culprits) <= set(asked) for asked, culprits in named) or not error:
            self.blame(Promise.REFUSED, "it names what was not asked for, or nothing", number)
        if bool(error.bugs) != _contradicts(update):
            self.blame(Promise.REFUSED, "it is called contradictory, or should be", number)
        for asked, culprits in named[:3]:
            for id in dict.fromkeys(asked):
                if not (isinstance(call.request, Step) and id in call.consumed and id in call.depends):
                    self.see(id, number, is_there=id not in culprits)

    def _check_owned(self, number: int, call: Call, error: Refusal) -> None:
        for id in call.consumed:
            life = self.lives.of.get(id)
            if life is None or id in error.changes or id in error.deletes or call.update is None:
                continue
            task, mine = life.task, life.task.owner == call.update.client
            if id in error.owned and (mine or task.available <= self.clock.earliest(number)):
                self.blame(Promise.REFUSED, f"{id} was not under the lease of another", life.maker, number)
            elif id not in error.owned and not mine and task.available > self.clock.latest(number):
                self.blame(Promise.REFUSED, f"nor is it said that {id} was leased to another", life.maker, number)

    def _check_halves(self) -> None:
        """Of a call without an answer that left a trace, everything has to be seen, or known to be consumed."""
        for number in sorted(self.lives.applied):
            seen = [tag for tag in self.calls[number].tags if self.lives.chains.get(tag)]
            lacking = [tag for tag in self.calls[number].tags if not self.lives.chains.get(tag)]
            if lacking and self.lives.noticed(number) < FOREVER and not self.lives.meets_a_stranger(number):
                what = f"of one call there is {' '.join(seen) or 'what it consumed'} and there is not"
                self.blame(Promise.HALF, f"{what} {' '.join(lacking)}", number)

    def _check_consumers(self) -> None:
        """Whoever consumed a task was its owner, or its time had come; and each lease is one more attempt."""
        for id, life in self.lives.of.items():
            for number, is_certain in life.consumers.items():
                call, latest = self.calls[number], self.clock.latest(number)
                if id in call.consumed:
                    promise, is_owner = Promise.OWNERSHIP, call.update and call.update.client == life.task.owner
                else:
                    promise, is_owner = Promise.OWNED, False
                    self._check_attempts(life, number, is_certain=is_certain)
                if life.task.available > latest and not is_owner:
                    early = life.task.available - latest
                    self.blame(promise, f"{id} was taken {early} before it was available", life.maker, number)

    def _check_attempts(self, life: Life, number: int, *, is_certain: bool) -> None:
        for task in self.calls[number].claimed:
            more = task.attempts - life.task.attempts
            if task.data == life.task.data and (more < 1 or (is_certain and more > 1)):
                self.blame(Promise.FITS, f"this is another attempt than the {task.attempts}th", life.maker, number)

    def _check_growth(self) -> None:
        """Ids of a call are larger than those of all calls that had returned when it was invoked."""
        makers: dict[int, list[int]] = defaultdict(list)
        for id, life in self.lives.of.items():
            makers[life.maker].append(id)
        ended = sorted((self.calls[number].returned or FOREVER, max(ids), number) for number, ids in makers.items())
        highest: list[tuple[int, int]] = []
        for _, id, number in ended:
            highest.append(max(highest[-1] if highest else (id, number), (id, number)))
        returns = [returned for returned, _, _ in ended]
        for number, ids in makers.items():
            before = bisect_left(returns, self.calls[number].invoked)
            if before and highest[before - 1][0] >= min(ids):
                id, earlier = highest[before - 1]
                self.blame(Promise.GROW, f"{min(ids)} was made after {id}", earlier, number)

    def _check_order(self) -> None:
        order = Order([(call.invoked, call.returned) for call in self.calls])
        self._add_lives(order)
        for id, number in self.present:
            life = self.lives.of[id]
            order.add(life.maker, number, "made {id}, which was there for", id)
            for consumer in life.consumers:
                order.add(number, consumer, "found {id}, which was consumed by", id)
        for id, number in self.absent:
            for consumer, is_certain in self.lives.of[id].consumers.items():
                if is_certain:
                    order.add(consumer, number, "consumed {id}, which was gone for", id)
        if circle := order.circle():
            steps = (
                f"#{step.before} {step.why.format(id=step.id) or 'returned before'} #{step.after}" for step in circle
            )
            self.blame(Promise.ORDER, "; ".join(steps), *sorted(step.before for step in circle))

    def _add_lives(self, order: Order) -> None:
        for id, life in self.lives.of.items():
            for number in life.consumers:
                order.add(life.maker, number, "made {id}, which was consumed by", id)
        for tag, ids in self.lives.chains.items():
            if (origin := self.lives.origins.get(tag)) is not None and ids:
                order.add(origin, self.lives.of[ids[0]].maker, "brought in what was leased as {id} by", ids[0])


def _fits_claim(call: Call) -> bool:
    claim, tasks = call.claim, call.claimed
    if claim is None:
        return not tasks
    return len(tasks) <= claim.limit and all(
        task.group in claim.names and task.owner == claim.client and task.attempts > 0 for task in tasks
    )


def _contradicts(request: Update) -> bool:
    changes = [change.id for change in request.updates or ()]
    return len(set(changes)) < len(changes) or not set(changes).isdisjoint(request.deletes or ())


class _Clock:
    """What the store's clock can have said when it carried out a call."""

    def __init__(self, calls: Sequence[Call], blame: Blame) -> None:
        self._calls = calls
        self._exact: dict[int, int] = {}
        for number, call in enumerate(calls):
            self._read(number, call, blame)
        ended = sorted((calls[n].returned or FOREVER, now) for n, now in self._exact.items())
        begun = sorted(((calls[n].invoked, now) for n, now in self._exact.items()), reverse=True)
        self._ends, self._at_least = [end for end, _ in ended], _running(max, [now for _, now in ended])
        self._starts, self._at_most = [-start for start, _ in begun], _running(min, [now for _, now in begun])
        for number, now in self._exact.items():
            if now < self._bound_below(number):
                blame(Promise.CLOCK, f"it was {self._bound_below(number)} before, and {now} for", number)

    def earliest(self, number: int) -> int:
        """No call that made something and had returned before this one was invoked was carried out later."""
        return self._exact.get(number, self._bound_below(number))

    def latest(self, number: int) -> int:
        """No call that made something and was invoked when this one had returned was carried out earlier."""
        if number in self._exact:
            return self._exact[number]
        later = bisect_left(self._starts, -(self._calls[number].returned or FOREVER))
        return self._at_most[later - 1] if later else FOREVER

    def _bound_below(self, number: int) -> int:
        ended = bisect_left(self._ends, self._calls[number].invoked)
        return self._at_least[ended - 1] if ended else 0

    def _read(self, number: int, call: Call, blame: Blame) -> None:
        """Compute the instant of a call from the tasks it made."""
        update, claim = call.update or Update(0), call.claim
        nows = {task.available - claim.duration for task in call.claimed if claim}
        timespecs = [change.timespec for change in (*(update.adds or ()), *(update.updates or ()))]
        for timespec, task in zip(timespecs, call.updated, strict=False):
            if timespec <= 0:
                nows.add(task.available + timespec)
            elif timespec != task.available:
                blame(Promise.FITS, f"{task.id} was to be available at {timespec}", number)
        if len(nows) > 1:
            blame(Promise.FITS, "its tasks are of more than one instant", number)
        self._exact.update((number, now) for now in nows)


def _running(choose: Callable[[int, int], int], numbers: Iterable[int]) -> list[int]:
    return list(accumulate(numbers, choose))


class _Sweep:
    """Walks through time with the tasks that were certainly there, for the calls that must have seen them.

    They are the listings, which show all tasks of a group, and the claims that got less than they asked for.
    """

    def __init__(self, judge: _Judge) -> None:
        self._judge = judge
        self._calls = judge.calls
        self._there: dict[str, dict[int, Life]] = defaultdict(dict)

    def run(self) -> None:
        makers = ((self._calls[life.maker].returned, id, life) for id, life in self._judge.lives.of.items())
        born = sorted((returned, id, life) for returned, id, life in makers if returned is not None)
        position = 0
        for number in self._askers():
            invoked = self._calls[number].invoked
            while position < len(born) and born[position][0] < invoked:
                _, id, life = born[position]
                self._there[life.task.group][id] = life
                position += 1
            self._ask(number, self._calls[number])

    def _askers(self) -> list[int]:
        numbers = [
            number
            for number, call in enumerate(self._calls)
            if (isinstance(call.request, Listing) and isinstance(call.answer, Sequence))
            or (call.claim and call.was_applied and len(call.claimed) < call.claim.limit)
        ]
        return sorted(numbers, key=lambda number: self._calls[number].invoked)

    def _ask(self, number: int, call: Call) -> None:
        if isinstance(call.request, Listing):
            groups = list(self._there) if call.request.group is None else [call.request.group]
        else:
            groups = list(call.claim.names) if call.claim else []
        for name in groups:
            there = self._there[name]
            self._forget(there, call.invoked)
            if isinstance(call.answer, Sequence):
                for id in there.keys() - {task.id for task in call.answer if task}:
                    self._judge.miss(id, number)
            else:
                self._check_claim(number, there)

    def _forget(self, there: dict[int, Life], before: int) -> None:
        gone = [
            id
            for id, life in there.items()
            if life.is_unsure or any((self._calls[by].returned or FOREVER) < before for by in life.consumers)
        ]
        for id in gone:
            del there[id]

    def _check_claim(self, number: int, there: dict[int, Life]) -> None:
        """A task that was available throughout, and that nobody can have consumed, would have been found."""
        now, until = self._judge.clock.earliest(number), self._calls[number].returned or FOREVER
        for id, life in there.items():
            if life.task.available > now or self._judge.suspects(id, number):
                continue
            if any(self._calls[by].invoked < until for by in life.consumers):
                self._judge.absent.append((id, number))
            elif not self._judge.lives.may_be_hidden(life, number):
                what = f"{id} was available, and the claim did not get it"
                self._judge.blame(Promise.FOUND, what, life.maker, number)
