"""Order: who starts before whom. Plain functions over names, and the names that each depends on."""

from collections.abc import Iterable, Mapping

Graph = Mapping[str, Iterable[str]]
"""Of each name, those that it depends on; one that is no name in it counts for nothing."""


def steps(graph: Graph) -> list[list[str]]:
    """The names in order of start: those of a step depend on earlier ones alone, and keep their order.

    What is in a circle, or depends on one, is left out.
    """
    waiting = {name: {other for other in others if other in graph} for name, others in graph.items()}
    dependents: dict[str, list[str]] = {name: [] for name in graph}
    for name, others in waiting.items():
        for other in others:
            dependents[other].append(name)
    place = {name: number for number, name in enumerate(graph)}
    found = []
    step = [name for name, others in waiting.items() if not others]
    while step:
        found.append(step)
        following = []
        for name in step:
            for dependent in dependents[name]:
                waiting[dependent].discard(name)
                if not waiting[dependent]:
                    following.append(dependent)
        step = sorted(following, key=place.__getitem__)
    return found


def circles(graph: Graph) -> list[list[str]]:
    """Circles of names, each depending on the next and the last on the first: one for each way back to where it began.

    Every circle there is has such a way in it.
    """
    found = []
    done: set[str] = set()
    for start in graph:
        if start in done:
            continue
        # Depth first, without recursion: a chain may be as long as a file.
        way = [start]
        place = {start: 0}
        left = [iter(dict.fromkeys(graph[start]))]
        while way:
            for other in left[-1]:
                if other in place:
                    found.append(way[place[other] :])
                elif other in graph and other not in done:
                    place[other] = len(way)
                    way.append(other)
                    left.append(iter(dict.fromkeys(graph[other])))
                    break
            else:
                name = way.pop()
                left.pop()
                del place[name]
                done.add(name)
    return found


def needed(graph: Graph, names: Iterable[str]) -> set[str]:
    """These names, and all that they depend on, however far."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [other for other in graph[name] if other in graph]
    return found
