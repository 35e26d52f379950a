"""What one integer decides about a world of graphs, and what ought to come of it: a naive breadth-first model.

A task is known by a key made of ints alone, and all that becomes of it follows from its stage and its key: how often it
is tried, with what error it fails, what its result is, which edges take that. So what a run gives does not depend on
timing, though which of two equal tasks comes first does.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import attrs

from celestialflow_core import GraphError, Outcome, TaskAbandoned, WorkerCrashed
from celestialflow_core.executors import Call, Result
from celestialflow_core.graph import Family

MOST = 300  # tasks in a world
Key: TypeAlias = tuple[Any, ...]
"""Begins with what it is a key of (below); then a thing has its level and number, others a stage and the key inside."""

THING, OUTCOME, FAMILY, MANY = range(4)


class Spoiled(Exception):
    """What process_result raises."""


class NoArguments(Exception):
    """What get_args raises."""


class Filtered(Exception):
    """What when and route raise."""


class Broken(Exception):
    """What an iterable raises that is a result."""


# ---------------------------------------------------------------------- tasks and results


class Thing:
    """A task, or a result: known by its key. *at*: which item of a result it is."""

    def __init__(self, key: Key, at: int = 0) -> None:
        self.key = key
        self.at = at

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.key}"


class ManyInMemory(list[Thing]):
    """A result of many items: a list, which is known by a key."""

    def __init__(self, key: Key, items: list[Thing]) -> None:
        super().__init__(items)
        self.key = key
        self.at = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ManyInMemory) and self.key == other.key

    def __hash__(self) -> int:  # type: ignore[override]  # a list is not hashable
        return hash(self.key)


class ManyOnce(Thing):
    """A result that is an iterator; it may break off."""

    def __init__(self, key: Key, items: Iterator[Thing]) -> None:
        super().__init__(key)
        self._items = items

    def __iter__(self) -> ManyOnce:
        return self

    def __next__(self) -> Thing:
        item = next(self._items)
        if item is None:
            self._items = iter([None])  # type: ignore[list-item]  # whoever asks again gets the same answer
            raise Broken(self.key)
        return item


class ManyAgain(Thing):
    """A result that gives another iterator whenever it is asked; or none."""

    def __init__(self, key: Key, make: Any) -> None:
        super().__init__(key)
        self._make = make

    def __iter__(self) -> Iterator[Thing]:
        return iter(self._make())


def level_of(key: Key) -> int:
    """How many calls led to it."""
    return key[1] if key[0] in (THING, MANY) else level_of(key[2])


def nesting_of(key: Key) -> int:
    """How many failures it tells of."""
    return 0 if key[0] in (THING, MANY) else nesting_of(key[2]) + (key[0] == OUTCOME)


# ---------------------------------------------------------------------- what is decided


@attrs.frozen
class EdgeScript:
    """One ``connect``."""

    number: int
    source: int
    targets: tuple[int, ...]
    each: bool = False
    when: bool = False
    route: bool = False
    gather: bool = False
    error: bool = False
    limited: bool = False  # it takes nothing from a certain level on: it closes a cycle


@attrs.frozen
class StageScript:
    """One manager."""

    deduplicate: bool
    max_retries: int
    many: bool  # its results have many items
    get_args: bool
    process_result: bool


@attrs.frozen
class Fate:
    """How a task ends: after so many *attempts*, with a value known by *value*, or with an error of *kind*."""

    attempts: int
    value: Key | None = None
    kind: type[BaseException] | None = None


@attrs.frozen
class Child:
    """A task that comes of another. *slot*: edge, target and item; *refused*: the error that it begins as."""

    slot: tuple[int, int, int]
    target: int
    key: Key
    refused: type[BaseException] | None = None


@attrs.frozen
class Offspring:
    """All that comes of a task. *taken*: some edge takes its outcome. *gathered*: what comes of it is gathered."""

    children: tuple[Child, ...]
    taken: bool
    gathered: bool = False


NOTHING = Offspring((), taken=False)


class GraphScript:
    """The graph of a seed, and what becomes of each task in it."""

    RETRYABLE = (TimeoutError, ConnectionError, WorkerCrashed)
    FINAL = (ValueError, SystemExit, asyncio.CancelledError, TaskAbandoned)

    def __init__(self, dice: random.Random, crowded: bool) -> None:
        self.crowded = crowded
        """Whether the first stage has many tasks and is fast, and the others are slow: then all waits before them."""
        self.salt = dice.getrandbits(40)
        self.values = dice.choice(["unique", "few", "few", "finite"])
        """Whether equal results are made by many tasks; "finite": a cycle comes back to the same tasks."""
        self.domain = dice.choice([3, 10, 40])
        self.bad = dice.choice([0, 0, 5, 10, 25])  # of a hundred tasks
        self.retryable = self.RETRYABLE if dice.random() < 0.5 else self.RETRYABLE[:2]
        self.fan = dice.choice([1, 2, 3, 6])
        self.passing = dice.choice([30, 60, 90])
        self.most_levels = dice.randint(2, 5)
        self.edges: list[EdgeScript] = []
        number = dice.randint(3, 5) if crowded else dice.choice([1, 2, 2, 3, 3, 4, 5, 6])
        self._draw_forward(dice, number)
        back = [self._draw_back(dice, number) for _ in range(0 if crowded else dice.choice([0, 0, 0, 1, 2]))]
        endless = any(edge is not None and not edge.limited and not edge.error for edge in back)
        exploding = {edge.source for edge in self.edges if edge.each}
        self.stages = [
            StageScript(
                deduplicate=endless or dice.random() < 0.6,
                max_retries=dice.randint(0, 2),
                many=dice.random() < (0.95 if stage in exploding else 0.05),
                get_args=dice.random() < 0.3,
                process_result=dice.random() < 0.3,
            )
            for stage in range(number)
        ]
        roots = dice.choice([1, 5, 20, 60, 100])
        starts = {0, *(stage for stage in range(number) if dice.random() < 0.2)}
        for stage in range(number):
            if not any(stage in self.reachable(start) for start in starts):
                starts.add(stage)
        self.roots: dict[int, list[Key]] = {
            stage: [(THING, 0, self._number(stage, at)) for at in range(dice.randint(0, roots))] for stage in starts
        }
        if self.crowded:
            self.roots[0] = [(THING, 0, self._number(0, at)) for at in range(100)]
        self._fates: dict[tuple[int, Key], Fate] = {}
        self.tick: Callable[[], object] = int
        """Called by the iterators that are results, before each item."""
        self.tried: dict[int, Key] = {}
        """The keys of the calls that an executor has made, by id."""

    # ------------------------------------------------------------------ the graph

    def _add(self, dice: random.Random, source: int, targets: list[int], **how: Any) -> EdgeScript:
        edge = EdgeScript(len(self.edges), source, tuple(targets), **how)
        self.edges.append(edge)
        return edge

    def _draw_forward(self, dice: random.Random, number: int) -> None:
        shape = dice.choice(["chain", "fan", "any", "any", "diamonds", "routes"])
        if self.crowded and dice.random() < 0.5:
            shape = dice.choice(["fan", "routes"])
        if shape == "routes" and number > 1:
            self._add(dice, 0, list(range(1, number)), route=True)
            return
        for target in range(1, number):
            before = {"chain": [target - 1], "fan": [0], "diamonds": [max(0, target - 2), target - 1]}.get(
                shape, [dice.randrange(target) for _ in range(dice.choice([1, 1, 2]))]
            )
            for source in before if dice.random() < 0.9 else []:
                self._draw_edge(dice, source, [target])
        for _ in range(dice.choice([0, 0, 1, 2]) if number > 1 else 0):
            source = dice.randrange(number - 1)
            later = list(range(source + 1, number))
            self._draw_edge(dice, source, dice.sample(later, dice.randint(1, min(3, len(later)))))

    def _draw_edge(self, dice: random.Random, source: int, targets: list[int]) -> None:
        kind = dice.choice(["plain"] * 4 + ["each"] * 3 + ["error"] + ["gather"] * (0 if self.crowded else 2))
        how: dict[str, Any] = {"when": dice.random() < 0.3}
        if kind != "plain":
            how[kind] = True
        elif dice.random() < 0.3 or len(targets) > 1:
            how["route"] = dice.random() < 0.7
        self._add(dice, source, targets, **how)

    def _draw_back(self, dice: random.Random, number: int) -> EdgeScript | None:
        """An edge that closes a cycle, if nothing is gathered in it."""
        target = dice.randrange(number)
        source = dice.randrange(target, number)
        kind = dice.choice(["plain", "each", "error"])
        limited = self.values != "finite" or kind == "error" or dice.random() < 0.5
        how = {kind: True} if kind != "plain" else {}
        edge = self._add(dice, source, [target], when=limited, limited=limited, **how)
        if any(each.gather and each.source in self.reachable(to) for each in self.edges for to in each.targets):
            self.edges.pop()
            return None
        return edge

    def reachable(self, start: int) -> set[int]:
        """The stages that can be reached from one, itself included."""
        found, todo = {start}, [start]
        for stage in todo:
            for edge in self.edges:
                if edge.source == stage:
                    new = set(edge.targets) - found
                    found |= new
                    todo += new
        return found

    @property
    def acyclic(self) -> bool:
        """Whether no edge leads back."""
        return all(target > edge.source for edge in self.edges for target in edge.targets)

    @property
    def gathers(self) -> bool:
        """Whether there is a join."""
        return any(edge.gather for edge in self.edges)

    @property
    def twins(self) -> bool:
        """Whether two edges may make the same task of the same result."""
        kinds = Counter((e.source, to, e.each, e.gather, e.error) for e in self.edges for to in e.targets)
        return max(kinds.values(), default=0) > 1

    # ------------------------------------------------------------------ the tasks

    def _chance(self, percent: float, *of: Any) -> bool:
        return self._draw(*of) % 1000 < 10 * percent

    def _draw(self, *of: Any) -> int:
        """A number that follows from ints: the same in each run of the seed."""
        return (hash((self.salt, *of)) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 24

    def _number(self, *of: Any) -> int:
        drawn = self._draw(*of)
        return drawn if self.values == "unique" else drawn % self.domain

    def key_of(self, task: Any) -> Key:
        """The key of a task, whatever it is."""
        if isinstance(task, Outcome):
            return (OUTCOME, int(str(task.stage)[1:]), self.key_of(task.task))
        if isinstance(task, Family):
            return (FAMILY, int(str(task.root.stage)[1:]), self.key_of(task.root.task))
        key: Key = task.key
        return key

    def _value_of(self, stage: int, key: Key) -> Key:
        level = 0 if self.values == "finite" else level_of(key) + 1
        kind = MANY if self.stages[stage].many and not self._chance(self.bad / 4, 1, stage, key) else THING
        return (kind, level, self._number(2, stage, key))

    def _content(self, value: Key) -> tuple[str, list[Key], bool]:
        """Of a result of many items: its form, the keys of the items, and whether it breaks off behind them."""
        form = ("list", "once", "again", "list", "once", "again", "unwilling")[self._draw(3, value) % 7]
        if form == "unwilling" and not self._chance(4 * self.bad, 4, value):
            form = "again"
        count = self._draw(5, value) % (self.fan + 1)
        items = [(THING, value[1], self._number(6, value, at)) for at in range(count)]
        return form, items, form == "once" and self._chance(self.bad, 7, value)

    def make(self, value: Key) -> Any:
        """The result with this key."""
        if value[0] == THING:
            return Thing(value)
        form, keys, breaks = self._content(value)

        def things() -> Iterator[Any]:
            for at, key in enumerate(keys):
                if form != "list":  # which is filled where it is made
                    self.tick()
                yield Thing(key, at)
            if breaks:
                yield None

        def unwilling() -> Any:
            raise Broken(value)

        if form == "list":
            return ManyInMemory(value, list(things()))
        return (
            ManyOnce(value, things()) if form == "once" else ManyAgain(value, things if form == "again" else unwilling)
        )

    def fate(self, stage: int, key: Key) -> Fate:
        """What becomes of a task."""
        fate = self._fates.get((stage, key))
        if fate is None:
            fate = self._fates[stage, key] = self._decide(stage, key)
        return fate

    def _decide(self, stage: int, key: Key) -> Fate:
        script = self.stages[stage]
        if script.get_args and self.no_arguments(stage, key):
            return Fate(1, kind=NoArguments)
        attempt = 1
        while (error := self._attempt(stage, key, attempt)) is not None:
            if attempt > script.max_retries or not issubclass(error, self.retryable) or error is TaskAbandoned:
                return Fate(attempt, kind=error)
            if error is WorkerCrashed and attempt >= 2:  # it says so itself, below
                return Fate(attempt, kind=error)
            attempt += 1
        if script.process_result and self.spoiled(stage, key):
            return Fate(attempt, kind=Spoiled)
        value = self._value_of(stage, key)
        verdict = self._judge(stage, value)
        return Fate(attempt, value=value) if isinstance(verdict, list) else Fate(attempt, kind=verdict)

    def no_arguments(self, stage: int, key: Key) -> bool:
        """Whether get_args raises."""
        return self._chance(self.bad / 4, 8, stage, key)

    def spoiled(self, stage: int, key: Key) -> bool:
        """Whether process_result raises."""
        return self._chance(self.bad / 4, 9, stage, key)

    def _attempt(self, stage: int, key: Key, attempt: int) -> type[BaseException] | None:
        if not self._chance(2 * self.bad, 10, stage, key, attempt):
            return None
        kinds = self.RETRYABLE if self._chance(70, 11, stage, key, attempt) else self.FINAL
        return kinds[self._draw(12, stage, key, attempt) % len(kinds)]

    def answer(self, stage: int, call: Call, task: Any, attempt: int) -> Result:
        """What the executor says of an attempt."""
        key = self.key_of(task)
        self.tried[call.id] = key
        kind = self._attempt(stage, key, attempt)
        if kind is None:
            value = self.make(self._value_of(stage, key))
            return Result(call.id, (value,) if self.stages[stage].process_result else value, None, 0.001, 0)
        if kind is TaskAbandoned:
            return Result(call.id, None, TaskAbandoned("t", 1.0), 0.001, 0)
        if kind is WorkerCrashed:
            return Result(call.id, None, WorkerCrashed("t", crashes=attempt), 0.001, 0)
        return Result(call.id, None, kind(f"attempt {attempt}"), 0.001, 0)

    # ------------------------------------------------------------------ the edges

    def when(self, edge: EdgeScript, key: Key) -> bool:
        """What ``when`` says of a result, an item or a failure.

        Raises:
            Filtered: Of some.
        """
        if self._chance(self.bad / 3, 13, edge.number, key):
            raise Filtered(edge.number, key)
        if edge.limited and edge.error and nesting_of(key) > 2:
            return False
        if edge.limited and self.values != "finite" and level_of(key) >= self.most_levels:
            return False
        return self._chance(self.passing, 14, edge.number, key)

    def route(self, edge: EdgeScript, key: Key) -> int | None:
        """Which target ``route`` names; one behind the last is none of them.

        Raises:
            Filtered: Of some.
        """
        if self._chance(self.bad / 3, 15, edge.number, key):
            raise Filtered(edge.number, key)
        if self._chance(self.bad / 3, 16, edge.number, key):
            return len(edge.targets)
        drawn = self._draw(17, edge.number, key) % (len(edge.targets) + 1)
        return None if drawn == len(edge.targets) else drawn

    def _lanes(self, edge: EdgeScript, key: Key) -> list[int] | type[BaseException]:
        """For which of its targets a result is, or what comes of asking."""
        try:
            if edge.when and not self.when(edge, key):
                return []
            if not edge.route:
                return list(range(len(edge.targets)))
            lane = self.route(edge, key)
        except Filtered:
            return Filtered
        if lane is None:
            return []
        return GraphError if lane == len(edge.targets) else [lane]

    def _judge(self, stage: int, value: Key) -> list[tuple[EdgeScript, list[int]]] | type[BaseException]:
        """Which edges take a result, or the error that asking them makes of it."""
        edges = [edge for edge in self.edges if edge.source == stage and not edge.error]
        found: list[tuple[EdgeScript, list[int]]] = []
        for edge in edges:
            if edge.each:
                if value[0] != MANY:
                    return TypeError
                if self._content(value)[0] == "unwilling":
                    return Broken
                found.append((edge, []))
        for edge in sorted(edges, key=lambda edge: edge.gather):
            if not edge.each:
                lanes = self._lanes(edge, value)
                if not isinstance(lanes, list):
                    return lanes
                if lanes:
                    found.append((edge, lanes))
        return found

    def offspring(self, stage: int, key: Key, value: Key | None) -> Offspring:
        """What comes of a task whose result is *value*, or that failed."""
        children: list[Child] = []
        if value is None:
            failure, taken = (OUTCOME, stage, key), False
            for edge in self.edges:
                if edge.source == stage and edge.error:
                    lanes = self._lanes(edge, failure)
                    children += self._children(edge, 0, failure, lanes)
                    taken = taken or (isinstance(lanes, list) and bool(lanes))
            return Offspring(tuple(children), taken)
        verdict = self._judge(stage, value)
        assert isinstance(verdict, list)
        for edge, lanes in verdict:
            if edge.gather:
                children += self._children(edge, 0, (FAMILY, stage, key), lanes)
            elif not edge.each:
                children += self._children(edge, 0, value, lanes)
            else:
                _, items, breaks = self._content(value)
                for at, item in enumerate(items):
                    children += self._children(edge, at, item, self._lanes(edge, item))
                if breaks:
                    children += self._children(edge, len(items), value, Broken)
        return Offspring(tuple(children), bool(verdict), any(edge.gather for edge, _ in verdict))

    @staticmethod
    def _children(edge: EdgeScript, at: int, key: Key, lanes: list[int] | type[BaseException]) -> list[Child]:
        if isinstance(lanes, list):
            return [Child((edge.number, lane, at), edge.targets[lane], key) for lane in lanes]
        return [Child((edge.number, 0, at), edge.targets[0], key, lanes)]


# ---------------------------------------------------------------------- the model

Row: TypeAlias = tuple[Key, str, Any, int]
"""What is known of an outcome: the task's key, its status, the key of its value or the class of its error, attempts."""


class TooLarge(Exception):
    """The graph makes too many tasks for one world."""


class Model:
    """One task after the other, in the order in which they come up."""

    def __init__(self, script: GraphScript, roots: dict[int, list[Key]]) -> None:
        number = len(script.stages)
        self.outcomes: list[Counter[Row]] = [Counter() for _ in range(number)]
        self.leaving: list[Counter[Row]] = [Counter() for _ in range(number)]
        self.passed: list[list[int]] = [[0] * len(edge.targets) for edge in script.edges]
        self.retries = [0] * number
        seen: list[set[Key]] = [set() for _ in range(number)]
        queue = deque([Child((0, 0, 0), stage, key) for stage, keys in roots.items() for key in keys])
        self.total = len(queue)
        while queue:
            task = queue.popleft()
            stage = task.target
            if task.refused is not None:
                row: Row = (task.key, "error", task.refused, 0)
                after = script.offspring(stage, task.key, None)
            elif script.stages[stage].deduplicate and task.key in seen[stage]:
                row, after = (task.key, "duplicate", None, 0), NOTHING
            else:
                seen[stage].add(task.key)
                fate = script.fate(stage, task.key)
                self.retries[stage] += fate.attempts - 1
                status = "success" if fate.kind is None else "error"
                row = (task.key, status, fate.value if fate.kind is None else fate.kind, fate.attempts)
                after = script.offspring(stage, task.key, fate.value)
            self.outcomes[stage][row] += 1
            if row[1] == "error" or not after.taken:
                self.leaving[stage][row] += 1
            for child in after.children:
                if child.refused is None:
                    edge, lane, _ = child.slot
                    self.passed[edge][lane] += 1
            queue += after.children
            self.total += len(after.children)
            if self.total > MOST:
                raise TooLarge


def draw_script(dice: random.Random) -> tuple[GraphScript, Model]:
    """A graph that is not too large, and what comes of it."""
    crowded = dice.random() < 0.15
    while True:
        script = GraphScript(dice, crowded)
        try:
            return script, Model(script, script.roots)
        except TooLarge:
            continue
