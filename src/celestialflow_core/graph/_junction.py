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

from collections.abc import Iterator, Sequence
from itertools import repeat
from time import monotonic
from typing import Any

from celestialflow_core._driver.exit import Exit, Flushed
from celestialflow_core._driver.stage import Kin, Stage
from celestialflow_core._observe.interface import Settled
from celestialflow_core._outcome import Outcome
from celestialflow_core.graph._family import FamilyTree, Member
from celestialflow_core.graph._spring import Spring, branches, open_iterator
from celestialflow_core.graph._way import Way

__all__ = ["Junction"]


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

    def pass_on(self, flushed: Flushed) -> None:
        """Send each outcome where it belongs."""
        stage, batch, kin, outcomes, others, kin_of_others = flushed
        if self._closed or (not self._families and not self._errors and not self._ways):
            stage.verdicts.clear()
            self._exit.pass_on(flushed)
            return
        leaving: list[Outcome[Any, Any]] = []
        if batch.ids:
            if not self._families and stage.judge is None:
                self._pass_columns(batch, kin)
                leaving += outcomes if not self._ways else ()
            else:
                leaving += self._pass_each(stage, batch, kin, outcomes)
        try:
            leaving += self._pass_others(stage, others, kin_of_others)
        finally:
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
        self, stage: Stage, batch: Settled, kin: Sequence[Kin] | None, outcomes: Sequence[Outcome[Any, Any]]
    ) -> Iterator[Outcome[Any, Any]]:
        """Send each result along the edges that take it; gives what leaves the graph."""
        for at, (id, value) in enumerate(zip(batch.ids, batch.values, strict=True)):
            outcome = outcomes[at] if outcomes else None
            taken = self._pass_one(stage, id, value, outcome, None if kin is None else kin[at])
            if not taken and outcome is not None:
                yield outcome

    def _pass_one(self, stage: Stage, id: int, value: Any, outcome: Outcome[Any, Any] | None, origin: Kin) -> bool:
        """Send one result where it belongs; False if no edge takes it."""
        verdict: list[tuple[Way, Any]]
        verdict = [(way, way.lanes(None)) for way in self._ways] if stage.judge is None else stage.verdicts.pop(id)
        root, member = (id, None) if origin is None else (origin[1], origin[2])
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
        if member is not None and outcome is not None:
            member.family.settled(member, outcome, taken=bool(verdict))
        if gathers and family is not None:
            self.fewer(family)
        if member is not None:
            self.fewer(member.family)
        return bool(verdict)

    def _pass_others(
        self, stage: Stage, others: Sequence[Outcome[Any, Any]], kin: Sequence[Kin] | None
    ) -> Iterator[Outcome[Any, Any]]:
        """Send failures along their edges, and restored results along theirs; gives what leaves the graph.

        Whatever no edge takes is a leaf of its family.
        """
        interrupt: KeyboardInterrupt | None = None
        for at, outcome in enumerate(others):
            origin = None if kin is None else kin[at]
            if outcome.status == "restored" and outcome.ok:
                if not self._pass_one(stage, outcome.id, outcome.value, outcome, origin):
                    yield outcome
                continue
            yield outcome
            root, member = (outcome.id, None) if origin is None else (origin[1], origin[2])
            taken = False
            if outcome.status in ("error", "restored") and interrupt is None:
                try:
                    taken = self._pass_error(outcome, root, member)
                except KeyboardInterrupt as error:
                    interrupt = error
            if member is not None:
                member.family.settled(member, outcome, taken=taken)
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
            if around is not None:
                around.fresh = around.fresh or tree.fresh
            for way in tree.gathers:
                for lane in range(len(way.channels)):
                    way.add(lane, complete, root.id, _root_of(root), around, place)
            tree = around


def _root_of(outcome: Outcome[Any, Any]) -> int:
    return outcome.id if outcome.root is None else outcome.root
