"""What the drawing of a graph tells: what can be reached, what is a cycle, what comes before what.

Pure functions of edges: a mapping from each node to those that follow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

__all__ = ["components", "cycle_through", "layers", "reachable"]

N = TypeVar("N")

Following = Mapping[N, Sequence[N]]


def reachable(start: Iterable[N], following: Following[N]) -> set[N]:
    """All nodes to which a path leads from one of *start*, these included."""
    seen: set[N] = set()
    todo = list(start)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += following.get(node, ())
    return seen


def components(following: Following[N]) -> list[list[N]]:
    """The strongly connected components: one of several nodes is a cycle, or several that share nodes.

    Each comes after all from which a path leads to it; apart from that they keep the order of *following*. By Tarjan's
    algorithm (1972), without recursion.
    """
    order: dict[N, int] = {}
    low: dict[N, int] = {}
    stack: list[N] = []
    on_stack: set[N] = set()
    found: list[list[N]] = []
    position = {node: at for at, node in enumerate(following)}
    for root in reversed(list(following)):
        if root in order:
            continue
        work = [(root, iter(sorted(following[root], key=position.__getitem__, reverse=True)))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for follower in rest:
                if follower not in order:
                    order[follower] = low[follower] = len(order)
                    stack.append(follower)
                    on_stack.add(follower)
                    followers = sorted(following[follower], key=position.__getitem__, reverse=True)
                    work.append((follower, iter(followers)))
                    break
                if follower in on_stack:
                    low[node] = min(low[node], order[follower])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    component: list[N] = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                        on_stack.discard(component[-1])
                    found.append(sorted(component, key=position.__getitem__))
    return found[::-1]


def cycle_through(node: N, following: Following[N]) -> list[N] | None:
    """A shortest cycle from *node* back to it, as the nodes on the way; None if there is none."""
    before: dict[N, N] = {}
    todo = [node]
    for current in todo:
        for follower in following.get(current, ()):
            if follower == node:
                way = [current]
                while way[-1] != node:
                    way.append(before[way[-1]])
                return way[::-1]
            if follower not in before:
                before[follower] = current
                todo.append(follower)
    return None


def layers(following: Following[N]) -> list[list[N]]:
    """The nodes by the longest way to them from a start; the nodes of a cycle share a layer."""
    depth: dict[N, int] = {}
    for component in components(following):
        mine = max((depth.get(node, 0) for node in component), default=0)
        for node in component:
            depth[node] = mine
        for node in component:
            for follower in following[node]:
                if follower not in component:
                    depth[follower] = max(depth.get(follower, 0), mine + 1)
    found: list[list[N]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in following:
        found[depth[node]].append(node)
    return found
