"""The pure functions of edges against brute force, and the ready-made shapes."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celestialflow_core.graph._topology import components, cycle_through, layers, reachable

Following = dict[int, list[int]]


@st.composite
def followings(draw: st.DrawFn) -> Following:
    """Up to seven nodes and any edges between them, in any order."""
    nodes = draw(st.permutations(range(draw(st.integers(0, 7)))))
    return {node: draw(st.lists(st.sampled_from(nodes), unique=True)) if nodes else [] for node in nodes}


def paths(following: Following) -> dict[int, set[int]]:
    """For each node those to which a path of one edge or more leads, by Warshall."""
    found = {node: set(followers) for node, followers in following.items()}
    for middle, first in product(following, following):
        if middle in found[first]:
            found[first] |= found[middle]
    return found


@pytest.mark.pure
@given(followings(), st.data())
def test_reachable_is_what_a_path_leads_to(following: Following, data: st.DataObject) -> None:
    """And the nodes from which it begins."""
    start = data.draw(st.lists(st.sampled_from(list(following)))) if following else []
    assert reachable(start, following) == set(start).union(*[paths(following)[node] for node in start])


@pytest.mark.pure
@given(followings())
def test_components_are_nodes_that_reach_each_other(following: Following) -> None:
    """Each after all that lead to it, and every node in one of them."""
    leads = paths(following)
    found = components(following)
    assert sorted(node for component in found for node in component) == sorted(following)
    at = {node: number for number, component in enumerate(found) for node in component}
    for one, other in product(following, following):
        together = one == other or (other in leads[one] and one in leads[other])
        assert (at[one] == at[other]) == together
        if other in leads[one]:
            assert at[one] <= at[other]


@pytest.mark.pure
@given(followings())
def test_cycle_through_is_a_shortest_cycle(following: Following) -> None:
    """None where no path leads back."""
    leads = paths(following)
    for node in following:
        cycle = cycle_through(node, following)
        assert (cycle is not None) == (node in leads[node])
        if cycle is not None:
            assert cycle[0] == node
            assert all(after in following[before] for before, after in pairwise([*cycle, node]))
            distance, at = 1, set(following[node])
            while node not in at:
                distance, at = distance + 1, {follower for other in at for follower in following[other]}
            assert len(cycle) == distance


@pytest.mark.pure
@given(followings())
def test_layers_are_the_longest_ways(following: Following) -> None:
    """One more than the deepest component before it; the nodes of a cycle share a layer, and keep their order."""
    leads = paths(following)
    depth: dict[int, int] = {}

    def deep(node: int) -> int:
        """Of all before it that are not in its own cycle, the deepest and one more."""
        if node not in depth:
            mine = {other for other in leads[node] if node in leads[other]} | {node}
            before = [other for other in following if other not in mine and mine & set(following[other])]
            depth[node] = 1 + max(map(deep, before), default=-1)
        return depth[node]

    found = layers(following)
    assert {node: at for at, layer in enumerate(found) for node in layer} == {node: deep(node) for node in following}
    order = list(following)
    for layer in found:
        assert layer == sorted(layer, key=order.index)


def edges_of(flow: Any) -> list[str]:
    """ "a>b" for each edge to each target."""
    return [f"{edge.source.name}>{target.name}" for edge in flow._network.edges for target in edge.targets]


@pytest.fixture
def nodes(make: Any) -> list[Any]:
    """Six managers, a to f."""
    return [make(abs, name=name) for name in "abcdef"]


def test_shapes_connect_what_they_say(graph: Any, nodes: list[Any]) -> None:
    """Each shape, with its edges in order."""
    a, b, c, d, e, f = nodes
    assert edges_of(graph().chain(a, b, c)) == ["a>b", "b>c"]
    assert edges_of(graph().fan(a, b, c)) == ["a>b", "a>c"]
    assert edges_of(graph().cross([a], [b, c], [d])) == ["a>b", "a>c", "b>d", "c>d"]
    assert edges_of(graph().ring(a, b, c)) == ["a>b", "b>c", "c>a"]
    assert edges_of(graph().wheel(a, b, c, d)) == ["a>b", "a>c", "a>d", "b>c", "c>d", "d>b"]
    assert edges_of(graph().grid([a, b, c], [d, e, f])) == ["a>b", "b>c", "a>d", "b>e", "c>f", "d>e", "e>f"]
    assert edges_of(graph().complete(a, b, c)) == ["a>b", "a>c", "b>a", "b>c", "c>a", "c>b"]


def test_shapes_of_few_managers_are_what_is_left_of_them(graph: Any, nodes: list[Any]) -> None:
    """One manager is in the graph without an edge, or goes round by itself; none is nothing."""
    a = nodes[0]
    for name in ("chain", "fan", "complete"):
        flow = getattr(graph(), name)(a)
        assert (flow.managers, edges_of(flow)) == ((a,), [])
    assert graph().cross([a]).managers == graph().grid([a]).managers == graph().wheel(a).managers == (a,)
    assert edges_of(graph().ring(a)) == ["a>a"]
    for name in ("chain", "cross", "ring", "grid", "complete"):
        assert getattr(graph(), name)().managers == ()


@pytest.mark.parametrize(
    ("shape", "total"),
    [("chain", 6), ("fan", 6), ("cross", 6), ("ring", 7), ("wheel", 11), ("grid", 8), ("complete", 31)],
)
def test_every_shape_runs_to_its_end(graph: Any, nodes: list[Any], shape: str, total: int) -> None:
    """One task put in at the first manager: each manager runs it once, and everything else is a duplicate."""
    a, b, c, d, e, f = nodes
    arguments = {"cross": [[a], [b, c, d, e, f]], "grid": [[a, b, c], [d, e, f]]}.get(shape, nodes)
    summary = getattr(graph(), shape)(*arguments).start({a: [1]})
    assert all(node.success_dict == {1: 1} for node in nodes)
    assert (summary.succeeded, summary.total) == (6, total)


def test_shapes_pass_the_arguments_of_connect_on(graph: Any, make: Any) -> None:
    """Also among others: a ring of each=True edges with a when."""
    a, b = make(lambda task: [task + 1, task + 2], name="a"), make(lambda task: [task], name="b")
    flow = graph().ring(a, b, each=True, when=lambda item: item < 10)
    flow.start({a: [1]})
    assert sorted(a.success_dict) == list(range(1, 10))
