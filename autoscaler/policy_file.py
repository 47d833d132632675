"""Which policies do these files hold, and on which line is what wrong with them?

A file holds one or more YAML documents. Each is read (policy/marked_yaml.py), validated (policy/document.py), and held
against those of all files (policy/claims.py): two policies must not want the same name, replicas or metrics.

All problems of all files come at once, each on one line: file:line: field: value, and what is allowed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from autoscaler.policy import Document
from autoscaler.policy.claims import claims
from autoscaler.policy.fields import dotted, objections
from autoscaler.policy.marked_yaml import Marked, NotYaml, read
from autoscaler.refusal import Refusal

MAX_BYTES = 1 << 20  # Kubernetes takes objects of 1.5 MiB; a policy has two or three KiB
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the file, the line (from 1; None if it concerns the whole file), and the sentence."""

    file: str
    line: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}" if self.line is None else f"{self.file}:{self.line}: {self.text}"


class PolicyError(Refusal):
    """Policy files that cannot be used; `problems` holds everything that is wrong, in the order of files and lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A valid document, and the file and line it begins at."""

    document: Document
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class _Page:
    """One YAML document of a file; `document` is None where it is no valid policy."""

    file: str
    marked: Marked
    document: Document | None
    problems: tuple[Problem, ...]


def load_policies(files: Sequence[Path | str]) -> list[LoadedPolicy]:
    """The policies in these files ("-" is standard input), in order. Raises PolicyError with all problems at once."""
    pages: list[_Page] = []
    problems: list[Problem] = []
    for file in files:
        try:
            pages += _pages(file)
        except PolicyError as error:
            problems += error.problems
    problems += [problem for page in pages for problem in page.problems]
    problems += _conflicts(pages)
    if problems:
        names = [_name(file) for file in files]
        raise PolicyError(sorted(problems, key=lambda problem: (names.index(problem.file), problem.line or 0)))
    return [LoadedPolicy(page.document, page.file, page.marked.line()) for page in pages if page.document]


def _pages(file: Path | str) -> list[_Page]:
    """Every document of a file. PolicyError, in one line, where it cannot be read as YAML at all."""
    name = _name(file)
    try:
        pages = [_page(name, marked) for marked in read(_text(file))]
    except NotYaml as error:
        raise PolicyError([Problem(name, error.line, str(error))]) from error
    if not pages:
        raise PolicyError([Problem(name, None, "holds no PDAutoscaler document")])
    return pages


def _page(file: str, marked: Marked) -> _Page:
    twice = "{}: written on line {} already"
    problems = [Problem(file, line, twice.format(dotted(path), before)) for path, line, before in marked.repeated]
    document = None
    try:
        document = Document.model_validate(marked.value)
    except ValidationError as error:
        problems += [Problem(file, marked.line(one.path), str(one)) for one in objections(error, Document)]
    return _Page(file, marked, document, tuple(problems))


def _name(file: Path | str) -> str:
    return "<stdin>" if str(file) == STDIN else str(file)


def _text(file: Path | str) -> str:
    """The text of a file. PolicyError, in one line, if it has none or too much."""
    try:
        data = _bytes(file)
        if len(data) <= MAX_BYTES:
            return data.decode("utf-8-sig")
        reason = f"is larger than {MAX_BYTES >> 20} MiB, which no policy is"
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 text (byte {error.start})"
    except OSError as error:
        reason = f"cannot be read: {(error.strerror or str(error)).lower()}"
    except ValueError as error:  # a NUL in the name
        reason = f"cannot be read: {error}"
    raise PolicyError([Problem(_name(file), None, reason)])


def _bytes(file: Path | str) -> bytes:
    """What a file holds, but not more than one byte too much: /dev/zero ends as well."""
    if str(file) == STDIN:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with Path(file).open("rb") as handle:
        return handle.read(MAX_BYTES + 1)


def _conflicts(pages: Sequence[_Page]) -> Iterator[Problem]:
    """Claims that an earlier policy has made already."""
    owners: dict[tuple[str, ...], tuple[_Page, str]] = {}
    for page in pages:
        for claim in claims(page.document) if page.document else ():
            line = page.marked.line(claim.path)
            owner, place = owners.setdefault(claim.what, (page, f"{page.file}:{line}"))
            if owner is not page:
                yield Problem(page.file, line, f"{dotted(claim.path)}: {claim.words} ({place})")
                if claim.path == ("metadata", "name"):
                    break  # the same policy twice: that it wants the same replicas needs no more lines
