"""One edge of a running graph: which results it takes, and how they become tasks of the next stages."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from celestialflow_core._driver.admission import refuse
from celestialflow_core._driver.channel import Channel
from celestialflow_core._driver.load import Load
from celestialflow_core._driver.stage import Stage
from celestialflow_core._driver.user_code import call
from celestialflow_core._text import cut
from celestialflow_core.errors import GraphError
from celestialflow_core.graph._edge import Edge
from celestialflow_core.graph._family import FamilyTree, Index, Member
from celestialflow_core.graph._spring import Spring

__all__ = ["Way"]


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
        refuse(self.targets[0], task, error, kin, now)
