"""Who made each task of a history, and who consumed it, as far as the answers tell.

Where an answer is missing, evidence takes its place: a task that only one unanswered call can have made shows that it
was carried out, and so does the absence of one that only it can have consumed. Where two calls come into question, no
conclusion is drawn, so that what is called a broken promise is one. So a task that one of several claims has leased is
put down to a call that stands for any of them, and nothing is said of what else they asked for; but together they
cannot have leased more than they asked for.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from taskstore.server.messages import Claim, Task
from trials.history import Call, Listing, Promise, Read

FOREVER = 1 << 100
Blame: TypeAlias = Callable[..., None]
"""Takes a promise, how it was broken, and the numbers of the calls that show it."""


@dataclass(slots=True)
class Life:
    """All that is known of one id."""

    task: Task
    maker: int
    consumers: dict[int, bool] = field(default_factory=dict)
    """Who consumed it, or came after who did; True if it is certain to be the former."""
    is_unsure: bool = False
    """Whether one of several calls without an answer consumed it."""


class Lives:
    """The lives of all ids of a history.

    Args:
        calls: The history; calls that stand for one of several are put at its end.
        blame: Told of what nothing explains.
    """

    def __init__(self, calls: list[Call], blame: Blame) -> None:
        self.of: dict[int, Life] = {}
        self.applied: set[int] = set()
        """The calls without an answer that were carried out."""
        self.strangers: list[tuple[int, int]] = []
        """Ids that a call found although nobody is known to have made them, and the call."""
        self.namers: dict[int, list[int]] = defaultdict(list)
        """For each id the calls without an answer that would have consumed it."""
        self.origins: dict[str, int] = {}
        """For the data of each task the call that brings it in."""
        self.chains: dict[str, list[int]] = defaultdict(list)
        """For the data of each task the ids that it had, in their order."""
        self._calls = calls
        self._blame = blame
        self._listings = sorted(
            (call.invoked, call.returned or FOREVER)
            for call in calls
            if call.request == Listing(None) and isinstance(call.answer, Sequence)
        )
        self._asked = len(calls)
        self._leases = self._unanswered_claims()
        self._unsure: list[tuple[int, int, list[int]]] = []
        """Ids of tasks that one of several claims has leased, the call that saw them first, and the claims."""
        for number, call in enumerate(calls):
            self._note(number, call)
        self._see_all()
        self._check_number()
        self._gaps = {group: _Gaps(self._spans(numbers)) for group, numbers in self._by_group().items()}
        for tag, ids in self.chains.items():
            self._link(tag, sorted(ids))
        for number, call in enumerate(calls):
            if call.was_applied or number in self.applied:
                self._consume_named(number)
        self._guesses = self._unanswered_guesses()
        self._hidden = {
            group: [number for number in numbers if self.meets_a_stranger(number)]
            for group, numbers in self._by_group().items()
        }

    def apply(self, number: int) -> None:
        """Conclude that a call without an answer was carried out."""
        self.applied.add(number)
        self._consume_named(number)

    def noticed(self, number: int) -> int:
        """By when all that a call without an answer can have made was seen, or had been consumed by others."""
        returned = self._calls[number].returned
        if returned is None:
            return FOREVER
        first = bisect_left(self._listings, (returned + 1, 0))
        return self._listings[first][1] if first < len(self._listings) else FOREVER

    def meets_a_stranger(self, number: int) -> bool:
        """Whether what a call without an answer made may have been consumed before anybody saw it."""
        noticed = self.noticed(number)
        return any(
            self._calls[by].invoked < noticed and (self._calls[by].returned or FOREVER) > self._calls[number].invoked
            for by in (*(by for _, by in self.strangers), *self._guesses)
            if by != number
        )

    def may_be_hidden(self, life: Life, number: int) -> bool:
        """Whether a claim without an answer may have leased a task, and a guess consumed it, before a call ended."""
        return any(
            self._calls[claim].invoked < (self._calls[number].returned or FOREVER)
            and self.noticed(claim) > self._calls[life.maker].invoked
            for claim in self._hidden.get(life.task.group, ())
        )

    def may_be_strange(self, number: int) -> bool:
        """Whether a call can have met a task that some call without an answer made, and nobody saw."""
        call = self._calls[number]
        return any(
            other.is_unknown and other.invoked < (call.returned or FOREVER) and call.invoked < self.noticed(position)
            for position, other in enumerate(self._calls[: self._asked])
        )

    def _note(self, number: int, call: Call) -> None:
        for tag in call.tags:
            if tag in self.origins and self.origins[tag] != number:
                raise ValueError(f"two calls bring in {tag!r}: a load has to give each task data of its own")
            self.origins[tag] = number
        if call.is_unknown:
            for id in call.consumed:
                self.namers[id].append(number)
        for task in call.made:
            if life := self.of.get(task.id):
                self._blame(Promise.ONCE, f"{task.id} was made twice", life.maker, number)
            else:
                self._make(task, number)

    def _make(self, task: Task, number: int) -> None:
        self.of[task.id] = Life(task, number)
        self.chains[task.data].append(task.id)

    def _see_all(self) -> None:
        """Go through all that was read, in the order in which it was."""
        reads = [number for number, call in enumerate(self._calls) if isinstance(call.request, Read | Listing)]
        for number in sorted(reads, key=lambda number: self._calls[number].returned or FOREVER):
            answer = self._calls[number].answer
            for task in answer if isinstance(answer, Sequence) else ():
                if task is None:
                    continue
                if (life := self.of.get(task.id)) is None:
                    self._attribute(task, number)
                elif life.task != task:
                    self._blame(Promise.SAME, f"{task.id} is {task} and {life.task}", life.maker, number)

    def _attribute(self, task: Task, seen: int) -> None:
        """Find out who made a task that no answer speaks of."""
        maker, claimers = self._bringer(task, seen), []
        if maker is None:
            claimers = self._claimers(task, seen)
        if len(claimers) == 1:
            [maker] = claimers
            self._leases[maker] -= 1
        if maker is not None:
            self.applied.add(maker)
        elif claimers:
            maker = self._one_of(claimers)
            self._unsure.append((task.id, seen, claimers))
        else:
            self._blame(Promise.NOWHERE, f"nobody can have made {task.id}", *self._origin(task.data), seen)
            maker = seen
        self._make(task, maker)

    def _bringer(self, task: Task, seen: int) -> int | None:
        number = self.origins.get(task.data)
        if (
            number is None
            or not self._calls[number].is_unknown
            or min(self.chains[task.data], default=task.id) < task.id
        ):
            return None
        update = self._calls[number].update
        assert update
        groups = [add.group for add in update.adds or () if add.data == task.data]
        fits = update.client == task.owner and groups in ([], [task.group])
        return number if fits and self._may_be_news(number, seen) else None

    def _claimers(self, task: Task, seen: int) -> list[int]:
        """The claims without an answer that may have leased a task, though none takes what it has leased itself."""
        makers = {self.of[id].maker for id in self.chains[task.data]}
        return [
            number
            for number, still in self._leases.items()
            if still
            and (claim := self._calls[number].claim)
            and claim.client == task.owner
            and task.group in claim.names
            and number not in makers
            and self._may_be_news(number, seen)
        ]

    def _one_of(self, numbers: Sequence[int]) -> int:
        """A call that stands for one of several claims, nobody knows which."""
        calls = [self._calls[number] for number in numbers]
        claims = [call.claim for call in calls if call.claim]
        groups = sorted({name for claim in claims for name in claim.names})
        claim = Claim(claims[0].client, duration=max(claim.duration for claim in claims), groups=groups)
        returns = [FOREVER if call.returned is None else call.returned for call in calls]
        returned = None if max(returns) == FOREVER else max(returns)
        name = f"one of {', '.join(f'#{number}' for number in numbers)}"
        self._calls.append(Call(name, claim, min(call.invoked for call in calls), returned))
        return len(self._calls) - 1

    def _check_number(self) -> None:
        """Find for each task a claim that may have leased it, so that none has leased more than it asked for."""
        leased: dict[int, list[int]] = defaultdict(list)
        for position, (id, seen, _) in enumerate(self._unsure):
            if not self._place(position, leased, set()):
                self._blame(Promise.NOWHERE, f"{id} and others are more than all claims asked for", seen)

    def _place(self, position: int, leased: dict[int, list[int]], tried: set[int]) -> bool:
        for claim in self._unsure[position][2]:
            if claim in tried:
                continue
            tried.add(claim)
            if len(leased[claim]) < self._leases[claim]:
                leased[claim].append(position)
                return True
            for other in leased[claim]:
                if self._place(other, leased, tried):
                    leased[claim].remove(other)
                    leased[claim].append(position)
                    return True
        return False

    def _may_be_news(self, number: int, seen: int) -> bool:
        """Whether what a call without an answer made can have been seen by another call for the first time."""
        by = self._calls[seen]
        return self._calls[number].invoked < (by.returned or FOREVER) and by.invoked < self.noticed(number)

    def _unanswered_claims(self) -> dict[int, int]:
        """The claims without an answer, as they were invoked, and how many tasks each may have leased."""
        numbers = sorted(range(len(self._calls)), key=lambda number: self._calls[number].invoked)
        claims = {number: self._calls[number].claim for number in numbers if self._calls[number].is_unknown}
        return {number: claim.limit for number, claim in claims.items() if claim}

    def _unanswered_guesses(self) -> list[int]:
        """The calls without an answer that name ids which nobody has seen, though they may have been given out."""
        highest = max(self.of, default=0)
        unseen = [numbers for id, numbers in self.namers.items() if id not in self.of and 0 < id <= highest]
        return [number for numbers in unseen for number in numbers]

    def _by_group(self) -> dict[str, list[int]]:
        """The claims without an answer that may have leased more than is known."""
        groups: dict[str, list[int]] = defaultdict(list)
        for number, still in self._leases.items():
            claim = self._calls[number].claim
            for name in claim.names if claim and still else ():
                groups[name].append(number)
        return groups

    def _spans(self, numbers: Iterable[int]) -> list[tuple[int, int]]:
        return sorted((self._calls[number].invoked, self.noticed(number)) for number in numbers)

    def _link(self, tag: str, ids: list[int]) -> None:
        """Follow a task through its leases: each claim consumed the id that the one before had made."""
        self.chains[tag] = ids
        makers = [self.of[id].maker for id in ids]
        if (origin := self.origins.get(tag)) is None:
            self._blame(Promise.NOWHERE, f"nobody has added a task with the data {tag!r}", makers[0])
            return
        if self._calls[origin].is_unknown:
            self.applied.add(origin)
        elif not self._calls[origin].was_applied:
            self._blame(
                Promise.TRACE, f"{ids[0]} has the data {tag!r} of a request that changed nothing", origin, makers[0]
            )
        for earlier, maker in zip(ids, makers[1:], strict=False):
            if self._calls[maker].claim:
                self.of[earlier].consumers[maker] = not self._may_lie_between(self.of[earlier].task.group, maker)
            elif maker == origin:
                self._blame(Promise.ONCE, f"{tag!r} was brought in twice, once as {earlier}", maker)
            else:
                self._blame(Promise.GROW, f"{earlier} was leased before there was {ids[-1]}", maker)

    def _may_lie_between(self, group: str, claim: int) -> bool:
        """Whether a claim without an answer may have leased the task before `claim` did."""
        call = self._calls[claim]
        return group in self._gaps and self._gaps[group].has_one(call.invoked, call.returned or FOREVER)

    def _consume_named(self, number: int) -> None:
        for id in self._calls[number].consumed:
            life = self.of.get(id)
            if life is None:
                self.strangers.append((id, number))
                continue
            for other in life.consumers:
                if other != number:
                    self._blame(Promise.ONCE, f"{id} was consumed twice", life.maker, other, number)
            life.consumers[number] = True

    def _origin(self, tag: str) -> list[int]:
        return [self.origins[tag]] if tag in self.origins else []


class _Gaps:
    """Spans of time, sorted by their starts."""

    def __init__(self, spans: list[tuple[int, int]]) -> None:
        self._starts = [start for start, _ in spans]
        self._ends: list[int] = []
        for _, end in spans:
            self._ends.append(max(end, self._ends[-1] if self._ends else end))

    def has_one(self, since: int, until: int) -> bool:
        """Whether a span overlaps this one."""
        before = bisect_left(self._starts, until)
        return before > 0 and self._ends[before - 1] > since
