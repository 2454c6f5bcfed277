"""Runs the rules and the schema against a server, and gathers what comes of it.

The laws of this room: whatever a server does, a run ends with a report; whatever the run has made is removed in the
end, also when it is interrupted; a rule that waits for a lease gets a longer one before it calls a slow server wrong.
"""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.metadata import version
from secrets import randbelow
from time import monotonic
from typing import Final, NamedTuple

from taskstore.contract.cleaning import clean
from taskstore.contract.connection import Connections, NoAnswer, Request, Target
from taskstore.contract.curl import script, shown
from taskstore.contract.dialect import DIALECTS
from taskstore.contract.features import FEATURES, offered, restricted
from taskstore.contract.gateway import Gateway
from taskstore.contract.report import PARTS, Part, Report, Verdict
from taskstore.contract.rule import LEVELS, Absent, Broken, Rule, TooSlow
from taskstore.contract.rules import RULES
from taskstore.contract.schema import EXAMPLES, check_schema, load_contract
from taskstore.contract.show import Silent
from taskstore.contract.shrink import Shrinker, Trail, relevant
from taskstore.contract.store import SECOND, Ledger, Names, Store
from taskstore.errors import TaskStoreError, UsageError

LEASES_NS: Final = (SECOND // 4, SECOND, 5 * SECOND)
"""How long the leases are that a rule waits for: the next one is tried where answers were too slow for the last."""
BESIDE: Final = 8
"""How many rules run at a time, so that those that wait for a lease wait together."""


class NoServerError(TaskStoreError):
    """There is no server at the address that the kit could check. The message says what there is."""


class Settings(NamedTuple):
    """What to check, and how.

    Args:
        url: Where the server is.
        token: What it asks for, if it does.
        level: `core`, or `full` with all additions.
        dialect: `json`, or `go` for a server that wants form fields.
        seed: All that is left to chance follows from it; None draws one.
        thorough_s: For how many seconds to go on, with new seeds; 0 is once.
        parts: Which parts to run.
        rules: The names of the rules to run; None is all.
        examples: How many random requests to generate for each operation.
        shrink: Whether to look for the shortest sequence that shows a failure.
    """

    url: str
    token: str | None = None
    level: str = "core"
    dialect: str = "json"
    seed: int | None = None
    thorough_s: float = 0.0
    parts: Collection[Part] = PARTS
    rules: Collection[str] | None = None
    examples: int = EXAMPLES
    shrink: bool = True


def _checked_rule(name: str, level: str) -> None:
    if name not in RULES:
        close = get_close_matches(name, RULES, n=1)
        raise UsageError(
            f"there is no rule {name}; " + (f"did you mean {close[0]}?" if close else "a run names them all")
        )
    if LEVELS.index(RULES[name].level) > LEVELS.index(level):
        raise UsageError(f"the rule {name} is one of level {RULES[name].level}: add --level {RULES[name].level}")


class Kit:
    """Checks one server; a context manager that removes in the end what it has made.

    Raises:
        UsageError: the settings make no sense.
        NoServerError: there is no server to be checked.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.level not in LEVELS or settings.dialect not in DIALECTS:
            raise UsageError("no such level or dialect")
        for name in settings.rules or ():
            _checked_rule(name, settings.level)
        try:
            self.target: Final = Target(settings.url, settings.token)
        except ValueError as error:
            raise UsageError(str(error)) from None
        self.settings: Final = settings
        self.seed: Final = randbelow(2**32) if settings.seed is None else settings.seed
        self.names: Final = Names()
        self.ledger: Final = Ledger(self.names.prefix)
        self.dialect: Final = DIALECTS[settings.dialect]
        self.connections: Final = Connections(self.target)
        self.features: frozenset[str] = frozenset()
        self._meet()
        if settings.level == "full":
            self.features = offered(self.store("features"))
        self.shrinker: Final = Shrinker(self.connections, self.dialect, self.names, self.ledger, features=self.features)

    def store(self, salt: str, lease_ns: int = LEASES_NS[0]) -> Store:
        """The server as a rule sees it; chance follows from the seed and `salt`."""
        return Store(
            self.connections,
            self.dialect,
            self.names,
            self.ledger,
            features=self.features,
            seed=f"{self.seed} {salt}",
            lease_ns=lease_ns,
        )

    def _meet(self) -> None:
        """Make sure that there is a server and that it speaks the dialect."""
        try:
            answer = self.connections.send(Request("GET", "/groups"))
            content = {"clientid": 1000, "depends": [2**62]}
            spoken = [
                name
                for name, dialect in DIALECTS.items()
                if self.connections.send(dialect.post("update", content)).status == 200
            ]
        except NoAnswer as error:
            raise NoServerError(f"no server answers at {self.target.url}: {error}") from error
        finally:
            self.connections.close()  # It may be that there is nothing more to say.
        if answer.status in (401, 403):
            asks = "wants another token" if self.settings.token else "asks for a token"
            raise NoServerError(f"the server {asks} (status {answer.status}): set TASKSTORE_TOKEN to it")
        if spoken and self.dialect.name not in spoken:
            raise NoServerError(f"this server wants to be spoken to otherwise: try --dialect {spoken[0]}")

    def rules(self) -> list[Rule]:
        """The rules to run."""
        levels = LEVELS[: LEVELS.index(self.settings.level) + 1]
        chosen = self.settings.rules
        return [rule for rule in RULES.values() if rule.level in levels and (chosen is None or rule.name in chosen)]

    def check(self, rule: Rule, salt: str = "") -> Verdict:
        """How the server fares by one rule."""
        verdict = Verdict(rule.name, rule.sentence, "semantics", "pass")
        if self.dialect.name not in rule.dialects:
            return verdict._replace(status="absent", message=f"not in the dialect {self.dialect.name}")
        if rule.feature and rule.feature not in self.features:
            return verdict._replace(status="absent", message=f"the server does not offer {FEATURES[rule.feature].what}")
        start = monotonic()
        for lease_ns in LEASES_NS:
            store = self.store(rule.name + salt, lease_ns)
            try:
                rule.check(store)
            except TooSlow as slow:
                verdict = verdict._replace(status="fail", message=str(slow), steps=relevant(store.steps))
                continue
            except Absent as absent:
                verdict = verdict._replace(status="absent", message=str(absent))
            except Broken as broken:
                verdict = self._failed(verdict, store, str(broken))
            except Exception as error:  # noqa: BLE001 - an answer so odd that nobody has thought of it is no right one
                verdict = self._failed(verdict, store, f"no sense can be made of an answer: {error!r}")
            else:
                verdict = verdict._replace(status="pass", message="", steps=())
            return verdict._replace(requests=len(store.steps), seconds=monotonic() - start)
        return verdict._replace(seconds=monotonic() - start)

    def _failed(self, verdict: Verdict, store: Store, message: str) -> Verdict:
        trail = Trail(store.common, tuple(store.steps), message)
        shortest = self.shrinker.shortest(trail) if self.settings.shrink else trail
        return verdict._replace(status="fail", message=shortest.complaint, steps=shortest.steps, common=shortest.common)

    def semantics(self, salt: str = "") -> Iterator[Verdict]:
        """How the server fares by each rule, as it becomes known."""
        rules = self.rules()
        yield from (self.check(rule, salt) for rule in rules if rule.alone)
        with ThreadPoolExecutor(BESIDE) as pool:
            futures = [pool.submit(self.check, rule, salt) for rule in rules if not rule.alone]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise

    def schema(self, show: Silent, round_: int = 0) -> list[Verdict]:
        """How the server fares by the schema."""
        if self.dialect.name != "json":
            message = f"openapi.yaml does not describe the dialect {self.dialect.name}"
            return [Verdict("openapi", "Answers have the shape of openapi.yaml.", "schema", "absent", message)]
        contract = restricted(load_contract(), self.features)
        with Gateway(self.connections, self.dialect, self.names, self.ledger, features=self.features) as gateway:
            return check_schema(
                contract,
                gateway,
                self.shrinker if self.settings.shrink else None,
                seed=self.seed + round_,
                examples=self.settings.examples,
                progress=show.generating,
            )

    def told(self, verdict: Verdict) -> str:
        """A failure in full: the rule, what is wrong, and commands that show it again."""
        commands = script(self.target.url, verdict.common, verdict.steps, verdict.message)
        return f"{verdict.rule}: {verdict.sentence}\n{shown(verdict.message)}\n\n{commands}"

    def clean(self) -> int:
        """Remove what was made, and return how many tasks could not be removed."""
        return clean(self.store("cleaning"))


def check(settings: Settings, show: Silent | None = None) -> Report:
    """Check a server.

    Args:
        settings: What to check, and how.
        show: Told what happens meanwhile.

    Raises:
        UsageError: the settings make no sense.
        NoServerError: there is no server to be checked.
    """
    show = show or Silent()
    started, start = datetime.now(UTC), monotonic()
    kit = Kit(settings)
    show.begin(kit.target.url, kit.names.prefix, kit.seed)
    verdicts: dict[str, Verdict] = {}
    try:
        _run(kit, show, verdicts, start)
    finally:
        left = kit.clean()
        kit.connections.close()
    order = {name: position for position, name in enumerate(RULES)}
    return Report(
        url=kit.target.url,
        level=settings.level,
        dialect=settings.dialect,
        seed=kit.seed,
        version=version("taskstore"),
        started=started.isoformat(timespec="seconds"),
        seconds=monotonic() - start,
        requests=kit.connections.requests,
        verdicts=sorted(verdicts.values(), key=lambda verdict: order.get(verdict.rule, len(order))),
        left=left,
    )


def _run(kit: Kit, show: Silent, verdicts: dict[str, Verdict], start: float) -> None:
    """Once, and as often as there is time for."""
    round_ = 0
    while not round_ or monotonic() - start < kit.settings.thorough_s:
        salt = f" {round_}" if round_ else ""
        if "semantics" in kit.settings.parts:
            show.phase("rules", len(kit.rules()))
            for verdict in kit.semantics(salt):
                _join(verdicts, verdict)
                show.verdict(verdict)
        if "schema" in kit.settings.parts and (kit.settings.rules is None):
            show.phase("generated requests", None)
            for verdict in kit.schema(show, round_):
                _join(verdicts, verdict)
                show.verdict(verdict)
        round_ += 1


def _join(verdicts: dict[str, Verdict], verdict: Verdict) -> None:
    before: Sequence[Verdict] = [verdicts[verdict.rule]] if verdict.rule in verdicts else []
    verdicts[verdict.rule] = before[0].joined(verdict) if before else verdict
