"""Draw the picture of docs/architecture.md from the imports in the code: `make architecture`.

Each box is a room (a package or a file), each arrow an import between rooms. An arrow that follows from others is left
out. Graphviz (Debian's package `graphviz`) does the layout.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
PICTURE = Path(__file__).parent / "images" / "architecture.svg"

PACKAGES = {
    "airflow_provider_firecrest": "Airflow provider",
    "prefect_firecrest": "Prefect collection",
    "firecrest_core": "core",
    "firecrest_local": "embedded FirecREST",
}
_COLOURS = {
    "airflow_provider_firecrest": "#dbe9f4",
    "prefect_firecrest": "#e4e1f5",
    "firecrest_core": "#e3f1e3",
    "firecrest_local": "#f6ecd9",
}


def main() -> None:
    """Write the picture."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    PICTURE.write_text(
        subprocess.run(["dot", "-Tsvg"], input=dot(graph), capture_output=True, text=True, check=True).stdout
    )
    print(PICTURE.relative_to(ROOT))


def dot(graph: grimp.ImportGraph) -> str:
    """Return the picture in Graphviz's language."""
    rooms = {package: sorted(graph.find_children(package)) for package in PACKAGES}
    lines = [
        "digraph {",
        '  graph [fontname="Helvetica" rankdir=TB ranksep=0.35 nodesep=0.2 compound=true];',
        '  node [fontname="Helvetica" fontsize=11 shape=box style="rounded,filled" fillcolor=white height=0.3];',
        '  edge [color="#667788" arrowsize=0.6];',
    ]
    for package, title in PACKAGES.items():
        lines.append(f'  subgraph "cluster_{package}" {{ label="{title}: {package}" style="rounded,filled"')
        lines.append(f'    color="{_COLOURS[package]}" fontsize=13')
        for room in rooms[package]:
            name = room.rpartition(".")[2] + ("/" if graph.find_children(room) else "")
            lines.append(f'    "{room}" [label="{name}"]')
        lines.append("  }")
    for importer, imported in sorted(_arrows(graph, [room for some in rooms.values() for room in some])):
        lines.append(f'  "{importer}" -> "{imported}"')
    return "\n".join([*lines, "}"])


def _arrows(graph: grimp.ImportGraph, rooms: list[str]) -> set[tuple[str, str]]:
    """Return the imports between rooms, without those that follow from others."""
    room_of = {module: room for room in rooms for module in (room, *graph.find_descendants(room))}
    below: dict[str, set[str]] = {room: set() for room in rooms}
    for module, room in room_of.items():
        found = {room_of[each] for each in graph.find_modules_directly_imported_by(module) if each in room_of}
        below[room] |= found - {room}

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        left = list(below[start])
        while left:
            room = left.pop()
            if room not in seen:
                seen.add(room)
                left += below[room]
        return seen

    return {
        (room, each)
        for room in rooms
        for each in below[room]
        if not any(each in reachable(other) for other in below[room] - {each})
    }


if __name__ == "__main__":
    main()
