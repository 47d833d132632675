"""Is a report written whole or not at all, and is a path that cannot be written found before the work?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoscaler.commands.page_file import refuse_unwritable, write_page
from autoscaler.refusal import Refusal

NAME_TOO_LONG = "x" * 300 + ".html"


def test_a_page_takes_the_place_of_the_one_before_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    for page in ("first", "sécond"):
        refuse_unwritable(path)
        write_page(path, page)
        assert path.read_text(encoding="utf-8") == page
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_half_way_leaves_the_page_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "r.html").write_text("before")

    def full(self: Path, text: str, encoding: str) -> int:
        with self.open("w") as file:
            file.write(text[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(Refusal, match=r"^--report .*r\.html: cannot be written: No space left on device$"):
        write_page(path, "a whole page")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no/such/r.html", r"^--report .*r\.html: there is no folder .*no/such$"),
        (NAME_TOO_LONG, r"^--report .*html: cannot be written: File name too long$"),
    ],
)
def test_a_bad_path_is_found_before_the_work(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(Refusal, match=told):
        refuse_unwritable(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path: Path) -> None:
    (real := tmp_path / "real.html").touch()
    (link := tmp_path / "link.html").symlink_to(real)
    refuse_unwritable(link)
    write_page(link, "page")
    assert link.is_symlink()
    assert real.read_text() == "page"
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    refuse_unwritable(pipe)
    write_page(pipe, "page")
    assert os.read(reader, 100) == b"page"
    os.close(reader)
    assert pipe.is_fifo()
