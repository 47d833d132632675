"""Where does a report go, so that minutes of work are never lost to a bad path, and nobody ever reads half of a page?

Before anything is played a file is made beside the path and taken away again: what forbids that, a missing folder, a disk
that is full or read-only, would forbid the report too. In the end the page is written to such a file, which then takes the
path's name in one step. A path that is something else already (a pipe, a link, `/dev/stdout`) is written as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from autoscaler.refusal import Refusal


def refuse_unwritable(path: Path | None) -> None:
    """Raises Refusal for a report that could not be written in the end."""
    if path is None:
        return
    with _told(path):
        if not path.parent.is_dir():
            raise Refusal(f"--report {path}: there is no folder {path.parent}")
        if _replaceable(path):
            _draft(path).touch()
            _draft(path).unlink()


def write_page(path: Path, page: str) -> None:
    """The whole page or, with a Refusal, nothing, and then what was there before is still there."""
    with _told(path):
        if not _replaceable(path):
            path.write_text(page, encoding="utf-8")
        else:
            try:
                _draft(path).write_text(page, encoding="utf-8")
                _draft(path).replace(path)
            finally:
                _draft(path).unlink(missing_ok=True)
    click.echo(f"report: {path}", err=True)


def _replaceable(path: Path) -> bool:
    return not path.is_symlink() and (path.is_file() or not path.exists())


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refusal(f"--report {path}: cannot be written: {error.strerror or error}") from None
