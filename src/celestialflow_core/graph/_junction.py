"""Behind a stage: what of its outcomes goes along which edge, and what leaves the graph.

    stage --settled--> junction --channel--> next stage          a result that an edge takes
                          |-----spring--> channel --> ...        a result whose items become tasks, one by one
                          |-----family--> channel --> ...        all that came of a result
                          `-----> exit                           what no edge takes, and every failure

Whether an edge takes a result may depend on the result (``when``, ``route``, ``each``): then it is asked while the task
settles, as ``process_result`` is, so that what it raises is the task's own error. Where nothing depends on the result,
batches go through as columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import repeat
from time import monotonic
from typing import Any

from celestialflow_core._driver.channel import Channel
from celestialflow_core._driver.exit import Exit
from celestialflow_core._driver.load import Load
from celestialflow_core._driver.stage import Kin, Stage
from celestialflow_core._driver.user_code import call
from celestialflow_core._observe.interface import Settled
from celestialflow_core._outcome import Outcome
from celestialflow_core._text import cut
from celestialflow_core.errors import GraphError
from celestialflow_core.graph._edge import Edge
from celestialflow_core.graph._family import FamilyTree, Index, Member
from celestialflow_core.graph._spring import Spring, branches, open_iterator

__all__ = ["Junction", "Way"]


class Way:
    """One edge of a running graph.

    Args:
        edge: What the user said.
        targets: The stages to which it leads.
        channels: The way to each of them.
        load: Counts what the run holds.
        traces: Whether the graph keeps track of where tasks came from.
    """

    def __init__(
        self, edge: Edge, targets: Sequence[Stage], channels: Sequence[Channel], load: Load, traces: bool
    ) -> None:
        self.edge = edge
        self.targets = targets
        self.channels = channels
        self.springs: deque[Spring] = deque()
        self.load = load
        self._refused = 0
        self._traces = traces
        self._lanes = range(len(channels))

    def held(self) -> tuple[int, int]:
        """How many results are kept here, at most, and how many items of results that wait to be taken.

        What goes to all targets waits for the slowest of them; what is routed waits for one each.
        """
        lengths = map(len, self.channels)
        waiting = sum(lengths) if self.edge.route is not None else max(lengths)
        return (len(self.springs), waiting) if self.edge.each else (waiting, 0)

    # ------------------------------------------------------------------ which results it takes

    def lanes(self, value: Any) -> Sequence[int]:
        """For which of the targets *value* is; none if the edge does not take it.

        Raises:
            GraphError: ``route`` named something else.
            BaseException: What ``when`` or ``route`` raised.
        """
        edge = self.edge
        if edge.when is not None and not call(edge.when, value):
            return ()
        if edge.route is None:
            return self._lanes
        target = call(edge.route, value)
        if target is None:
            return ()
        for lane, manager in enumerate(edge.targets):
            if target is manager or (isinstance(target, str) and target == manager.name):
                return (lane,)
        raise GraphError(
            f"Edge {edge.label}: route returned {cut(target)} for {cut(value)}. It must return one of the connected "
            f"managers, its name, or None."
        )

    # ------------------------------------------------------------------ what becomes of them

    def add_all(self, kin: Sequence[Any], values: Sequence[Any]) -> None:
        """Let each of *values* become a task of each target."""
        for channel in self.channels:
            channel.add(kin, values)

    def add(self, lane: int, value: Any, id: int, root: int, family: FamilyTree | None, parent: Member | None) -> None:
        """Let *value* become a task of one target."""
        self.channels[lane].add((self._kin(id, root, family, parent, (self.edge.number, lane, 0)),), (value,))

    def _kin(self, id: int, root: int, family: FamilyTree | None, parent: Member | None, index: Index) -> Any:
        """Where a new task came from, as far as the graph wants to know."""
        if family is not None:
            family.pending += 1
            return id, root, Member(family, parent, index)
        return (id, root, None) if self._traces else id

    def spring(self, spring: Spring) -> None:
        """Let the items of a result become tasks, when they are wanted; in a cycle the newest first."""
        if spring.family is not None:
            spring.family.pending += 1
        self.load.waiting += 1
        if self.channels[0].unbounded:
            self.springs.appendleft(spring)
        else:
            self.springs.append(spring)

    def drain(self) -> None:
        """Let nothing more come of the results that are being exploded."""
        self.load.waiting -= len(self.springs)
        self.springs.clear()

    def pump(self, room: int, now: float) -> tuple[int, list[FamilyTree], bool]:
        """Make tasks of as many items as the targets want.

        Returns:
            How many, the families of which one result less is pending, and whether there is more to do at once: a
            result less is held, or an iterator takes its time.
        """
        made = 0
        again = False
        fewer: list[FamilyTree] = []
        while self.springs:
            wanted = self._wanted(room - made)
            spring = self._turn(room - made)
            if spring is None or wanted <= 0:
                break
            if spring.ahead:
                wanted = min(wanted, room - made)
            begin, refused = spring.taken, self._refused
            items = spring.take(wanted)
            made += len(items)
            try:
                self._pass(spring, begin, items, now)
            finally:
                if spring.dry:
                    again = True
                    self.springs.remove(spring)
                    self.load.waiting -= 1
                    if spring.family is not None:
                        fewer.append(spring.family)
            if spring.interrupt is not None:
                raise spring.interrupt
            if self._refused > refused or (not spring.dry and len(items) < wanted):
                again = True  # what has been refused has settled, and is handed on first
                break
        return made, fewer, again

    def _wanted(self, room: int) -> int:
        """How many items to take. All targets get each of them, so they want as many as the slowest of them.

        While the run has room a fast one need not wait for a slow one: then what that does not want yet waits for it,
        as everything waits for one that has not begun.
        """
        appetites = [
            stage.appetite(room, channel.unbounded) - len(channel)
            for stage, channel in zip(self.targets, self.channels, strict=True)
            if stage.begun
        ]
        return max(min(appetites), min(max(appetites), room)) if appetites else 0

    def _turn(self, room: int) -> Spring | None:
        """The result whose turn it is, or None if all have to wait.

        Of edges that explode one iterator none goes ahead of the others while the run has no room. It then goes on with
        another one: for if each stayed with its first, they might wait for each other.
        """
        if room > 0 or not self.springs[0].ahead:
            return self.springs[0]
        return next((spring for spring in self.springs if not spring.ahead), None)

    def _pass(self, spring: Spring, begin: int, items: Sequence[Any], now: float) -> None:
        number, family, parent = self.edge.number, spring.family, spring.member
        if self.edge.always:
            for lane, channel in enumerate(self.channels):
                if items:
                    channel.add(
                        [
                            self._kin(spring.id, spring.root, family, parent, (number, lane, at))
                            for at in range(begin, begin + len(items))
                        ]
                        if family is not None
                        else [self._kin(spring.id, spring.root, None, None, (0, 0, 0))] * len(items),
                        items,
                    )
        else:
            for at, item in enumerate(items, begin):
                self._pass_one(spring, at, item, now)
        if spring.error is not None:
            spring.error.add_note(
                f"This came up while the items of a result were taken one by one, after {spring.taken} of them, for "
                f"the edge {self.edge.label}."
            )
            self.refuse(spring, spring.taken, spring.value, spring.error, now)

    def _pass_one(self, spring: Spring, at: int, item: Any, now: float) -> None:
        try:
            lanes = self.lanes(item)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            error.add_note(f"This came up when it was asked whether an item is for the edge {self.edge.label}.")
            self.refuse(spring, at, item, error, now)
            return
        for lane in lanes:
            kin = self._kin(spring.id, spring.root, spring.family, spring.member, (self.edge.number, lane, at))
            self.channels[lane].add((kin,), (item,))

    def refuse(self, spring: Spring, at: int, task: Any, error: BaseException, now: float) -> None:
        """Account for a task that could not be made: it fails, as one of the first target."""
        self._refused += 1
        kin = self._kin(spring.id, spring.root, spring.family, spring.member, (self.edge.number, 0, at))
        self.targets[0].refuse(task, error, kin, now)


class Junction:
    """Takes what settles in one stage.

    Args:
        exit: Where outcomes leave the graph.
        families: Whether the graph has a gather edge: then every task knows its family.
    """

    def __init__(self, exit: Exit, families: bool) -> None:
        self._exit = exit
        self._families = families
        self._ways: list[Way] = []  # for successes, in the order of their edges
        self._gathers: list[Way] = []
        self._errors: list[Way] = []
        self._whole: list[Way] = []  # those of them that take every success
        self._choosy: list[Way] = []  # and those that take some outcomes
        self._closed = False

    def connect(self, way: Way) -> None:
        """Send outcomes this *way* from now on."""
        if way.edge.on == "error":
            self._errors.append(way)
        else:
            (self._gathers if way.edge.gather else self._ways).append(way)
        (self._whole if way.edge.always else self._choosy).append(way)

    @property
    def judges(self) -> bool:
        """Whether what comes of a result depends on it."""
        return any(not way.edge.always or way.edge.each for way in (*self._ways, *self._gathers))

    @property
    def wants_outcomes(self) -> bool:
        """Whether somebody sees outcomes: a consumer, a family, or the manager at the end of an error edge."""
        return self._exit.wants_outcomes or self._families or bool(self._errors)

    @property
    def wants_successes(self) -> bool:
        """False where every success only becomes a task of another stage."""
        return self._families or (self._exit.wants_outcomes and (self._closed or not self._whole))

    def held(self) -> int:
        """How many settled tasks are kept, at most, since something that comes of them has not been taken.

        Ways that take everything keep the same results, those that choose may keep different ones.
        """
        whole = others = 0
        for way in self._whole:
            results, items = way.held()
            others += items
            if results > whole:
                whole = results
        for way in self._choosy:
            results, items = way.held()
            others += results + items
        return whole + others

    def close(self) -> None:
        """The run is ending: what settles from now on leaves the graph, and no item is taken any more."""
        self._closed = True
        for way in self._ways:
            way.drain()

    # ------------------------------------------------------------------ results

    def judge(self, value: Any) -> list[tuple[Way, Any]]:
        """Which edges take *value*, and what each needs for it: the lanes, or an iterator over its items.

        Raises:
            BaseException: What ``when``, ``route`` or the iterator raised; it is the task's error.
        """
        found: list[tuple[Way, Any]] = []
        exploded = [way for way in self._ways if way.edge.each]
        if exploded:
            iterator = open_iterator(value)
            # Two edges that explode one iterator each get all of it.
            shared = len(exploded) > 1 and iterator is value
            if shared:
                found += zip(exploded, branches(iterator, len(exploded), exploded[0].load), strict=True)
            else:
                found += [(exploded[0], iterator), *[(way, open_iterator(value)) for way in exploded[1:]]]
        for way in (*self._ways, *self._gathers):
            if not way.edge.each:
                lanes = way.lanes(value)
                if lanes:
                    found.append((way, lanes))
        return found

    def pass_on(
        self,
        stage: Stage,
        batch: Settled,
        kin: Sequence[Kin] | None,
        outcomes: Sequence[Outcome[Any, Any]],
        others: Sequence[Outcome[Any, Any]],
        kin_of_others: Sequence[Kin] | None,
    ) -> None:
        """Send each outcome where it belongs."""
        if self._closed or (not self._families and not self._errors and not self._ways):
            stage.verdicts.clear()
            self._exit.pass_on(stage, batch, kin, outcomes, others, kin_of_others)
            return
        leaving: list[Outcome[Any, Any]] = []
        if batch.ids:
            if not self._families and stage.judge is None:
                self._pass_columns(batch, kin)
                leaving += outcomes if not self._ways else ()
            else:
                self._pass_each(stage, batch, kin, outcomes, leaving)
        try:
            self._pass_others(others, kin_of_others)
        finally:
            leaving += others
            if self._exit.wants_outcomes:
                self._exit.outcomes.extend(leaving)

    def _pass_columns(self, batch: Settled, kin: Sequence[Kin] | None) -> None:
        """Every edge takes every result."""
        column: Sequence[Any] = batch.ids
        if kin is not None:
            roots = [id if at is None else at[1] for id, at in zip(batch.ids, kin, strict=True)]
            column = list(zip(batch.ids, roots, repeat(None), strict=False))
        for way in self._ways:
            way.add_all(column, batch.values)

    def _pass_each(
        self,
        stage: Stage,
        batch: Settled,
        kin: Sequence[Kin] | None,
        outcomes: Sequence[Outcome[Any, Any]],
        leaving: list[Outcome[Any, Any]],
    ) -> None:
        plain: list[tuple[Way, Any]] = [(way, way.lanes(None)) for way in self._ways] if stage.judge is None else []
        for at, (id, value) in enumerate(zip(batch.ids, batch.values, strict=True)):
            verdict = plain if stage.judge is None else stage.verdicts.pop(id)
            origin = None if kin is None else kin[at]
            root, member = (id, None) if origin is None else (origin[1], origin[2])
            outcome = outcomes[at] if outcomes else None
            family, parent = (None, None) if member is None else (member.family, member)
            gathers = [way for way, _ in verdict if way.edge.gather]
            if gathers:
                assert outcome is not None
                if family is not None:
                    family.pending += 1  # for the family inside it
                family, parent = FamilyTree(outcome, member, gathers), None
            for way, how in verdict:
                if way.edge.gather:
                    continue
                if way.edge.each:
                    way.spring(Spring(how, value, id, root, family, parent))
                else:
                    for lane in how:
                        way.add(lane, value, id, root, family, parent)
            if not verdict and outcome is not None:
                leaving.append(outcome)
                if member is not None:
                    member.family.leaves.append((member, outcome))
            if gathers and family is not None:
                self.fewer(family)
            if member is not None:
                self.fewer(member.family)

    def _pass_others(self, others: Sequence[Outcome[Any, Any]], kin: Sequence[Kin] | None) -> None:
        """Failures may have edges of their own; whatever no edge takes is a leaf of its family."""
        interrupt: KeyboardInterrupt | None = None
        for at, outcome in enumerate(others):
            origin = None if kin is None else kin[at]
            root, member = (outcome.id, None) if origin is None else (origin[1], origin[2])
            taken = False
            if outcome.status == "error" and interrupt is None:
                try:
                    taken = self._pass_error(outcome, root, member)
                except KeyboardInterrupt as error:
                    interrupt = error
            if member is not None:
                if not taken:
                    member.family.leaves.append((member, outcome))
                self.fewer(member.family)
        if interrupt is not None:
            raise interrupt

    def _pass_error(self, outcome: Outcome[Any, Any], root: int, member: Member | None) -> bool:
        taken = False
        family = None if member is None else member.family
        for way in self._errors:
            try:
                lanes = way.lanes(outcome)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                error.add_note(f"This came up when it was asked whether a failure is for the edge {way.edge.label}.")
                spring = Spring(iter(()), outcome, outcome.id, root, family, member)
                way.refuse(spring, 0, outcome, error, monotonic())
                lanes = ()
            for lane in lanes:
                way.add(lane, outcome, outcome.id, root, family, member)
                taken = True
        return taken

    def fewer(self, family: FamilyTree) -> None:
        """One thing less is pending in *family*; a complete one becomes a task of those that gather it."""
        tree: FamilyTree | None = family
        while tree is not None:
            tree.pending -= 1
            if tree.pending or self._closed:
                return
            place, root = tree.place, tree.root
            around = None if place is None else place.family
            complete = tree.complete()
            for way in tree.gathers:
                for lane in range(len(way.channels)):
                    way.add(lane, complete, root.id, _root_of(root), around, place)
            tree = around


def _root_of(outcome: Outcome[Any, Any]) -> int:
    return outcome.id if outcome.root is None else outcome.root
