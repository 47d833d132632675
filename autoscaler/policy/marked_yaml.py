"""What does a YAML text say, and on which line does each field stand?

The text is read node by node, so that nothing YAML allows happens behind the reader's back. A field written twice is
reported (loaders keep the last silently). Refused are aliases (`*name`; a page of them can stand for gigabytes), tags
of other programs, keys that are no text (a bare `on` is true in YAML 1.1), and more than 50 levels: libyaml's composer
recurses in C, and 200,000 brackets would end the process.

Scalars are YAML 1.1's, as PyYAML and kubectl have them, but a date stays text and `1e-3` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from autoscaler.policy.fields import Path, shown

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML built without libyaml: two to three times slower, otherwise the same
    from yaml import SafeLoader  # type: ignore[assignment]

MAX_DEPTH = 50  # a policy has 7 levels
TAG = "tag:yaml.org,2002:"
TAGS = frozenset(f"{TAG}{kind}" for kind in ("bool", "float", "int", "null", "str", "map", "seq"))


class NotYaml(Exception):
    """A text that is no YAML, or YAML that is not read here; `line` counts from 1."""

    def __init__(self, line: int, column: int, text: str) -> None:
        self.line = line
        super().__init__(f"column {column}: {text}")


@dataclass(slots=True)
class Marked:
    """One document: its value, the line of each field, and the fields written twice as (path, line, line before)."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    repeated: list[tuple[Path, int, int]] = field(default_factory=list)

    def line(self, path: Path = ()) -> int:
        """The line of a field, or of the part it would belong in where it is not written."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


class _Loader(SafeLoader):
    """The scalars of a document."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in PyYAML
        first: [(tag, pattern) for tag, pattern in rows if tag in TAGS]
        for first, rows in SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(f"{TAG}float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789"))


def read(text: str) -> Iterator[Marked]:
    """The documents of a text, but for empty ones. Raises NotYaml at the place where it is none."""
    try:
        _refuse_depths(text)
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            if node is not None and node.tag != f"{TAG}null":  # nothing between two `---`
                yield _Reading(loader).document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise NotYaml(line, column, " ".join(str(error.problem or error.context).split())) from error
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position].split(b"\n")
        raise NotYaml(len(before), len(before[-1]) + 1, "a control character, which no text has") from error


def _refuse_depths(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _refused(event, f"more than {MAX_DEPTH} levels deep")


def _refused(where: yaml.Node | yaml.Event, text: str) -> NotYaml:
    mark = where.start_mark
    return NotYaml(mark.line + 1, mark.column + 1, text) if mark else NotYaml(1, 1, text)


class _Reading:
    """Turns the nodes of one document into plain values, noting lines on the way."""

    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self._marked = Marked()
        self._seen: set[int] = set()

    def document(self, node: yaml.Node) -> Marked:
        """The whole document."""
        self._marked.value = self._field(node, (), node)
        return self._marked

    def _field(self, node: yaml.Node, path: Path, where: yaml.Node) -> Any:
        self._marked.lines[path] = where.start_mark.line + 1
        if node.tag not in TAGS:
            raise _refused(node, f"the tag {shown(node.tag)} is not read here")
        if id(node) in self._seen:
            raise _refused(where, "an alias (*name) is not read here; write the value out")
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._field(item, (*path, index), item) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag != f"{TAG}str":
                raise _refused(key, "a field's name that is not read as text; quotes make it text")
            here = (*path, key.value)
            if key.value in values:
                self._marked.repeated.append((here, key.start_mark.line + 1, self._marked.lines[here]))
            values[key.value] = self._field(value, here, key)
        return values

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node)
        except (ValueError, LookupError) as error:  # `!!int x`, `!!bool x`, a number of 5,000 digits
            raise _refused(node, f"{shown(node.value)} cannot be read as {node.tag.removeprefix(TAG)}") from error
