"""The page is whole and works offline: what it names exists, nothing points outside, no text becomes markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import pytest

from autoscaler.apps.live import STATIC
from autoscaler.core.fleet import Role

OWN = sorted(path for path in STATIC.iterdir() if path.is_file())
SCRIPTS = [path for path in OWN if path.suffix == ".js"]
STYLE = (STATIC / "live.css").read_text(encoding="utf-8")
INDEX = (STATIC / "index.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text_of_scripts = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style"):
            self.text_of_scripts += data.strip()


@pytest.fixture(scope="module")
def tags() -> Tags:
    tags = Tags()
    tags.feed(INDEX)
    return tags


def test_every_file_the_page_names_is_there(tags: Tags) -> None:
    named = [attrs[name] for _, attrs in tags.found for name in ("src", "href") if attrs.get(name)]
    assert len(named) >= 5
    for address in named:
        assert address is not None
        assert address.startswith("/static/")
        assert (STATIC / address.removeprefix("/static/")).is_file(), address


def test_every_module_a_script_imports_is_there() -> None:
    imports = [(path, name) for path in SCRIPTS for name in re.findall(r'from "(.+?)"', path.read_text(encoding="utf-8"))]
    assert len(imports) >= 10
    for path, name in imports:
        assert (path.parent / name).is_file(), f"{path.name} imports {name}"


def test_no_file_of_ours_names_an_address_outside() -> None:
    for path in OWN:
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"(?:https?:|wss?:)?//[\w-]+\.\w", text), path.name
        assert not re.search(r"@import|url\(", text), path.name


def test_the_chart_library_names_its_home_only_in_its_licence_line() -> None:
    shipped = [path for path in (STATIC / "vendor").rglob("*") if path.suffix in (".js", ".css")]
    assert shipped
    for path in shipped:
        code = re.sub(r"^\s*/\*!.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"https?://|@import|url\(", code), path.name


def test_the_page_has_no_inline_script_style_or_handler(tags: Tags) -> None:
    assert tags.text_of_scripts == ""
    assert [name for _, attrs in tags.found for name in attrs if name.startswith("on") or name == "style"] == []


@pytest.mark.parametrize("role", Role)
def test_no_script_knows_a_role_by_name(role: Role) -> None:
    assert [path.name for path in SCRIPTS if role.value in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_can_turn_a_name_into_markup_or_code(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|srcdoc", text)


def test_every_element_a_script_asks_for_is_on_the_page(tags: Tags) -> None:
    ids = {attrs["id"] for _, attrs in tags.found if "id" in attrs}
    asked = set(chain.from_iterable(re.findall(r'byId\("(.+?)"\)', path.read_text(encoding="utf-8")) for path in SCRIPTS))
    assert len(asked) >= 15
    assert asked <= ids


def test_every_colour_that_is_used_is_defined() -> None:
    set_by_scripts = {"--role", "--curve", "--level"}
    used = set(chain.from_iterable(re.findall(r"var\((--[\w-]+)", path.read_text(encoding="utf-8")) for path in OWN))
    used |= set(chain.from_iterable(re.findall(r'"(--[\w-]+)"', path.read_text(encoding="utf-8")) for path in SCRIPTS))
    assert used - set_by_scripts <= set(re.findall(r"(--[\w-]+):", STYLE))


def schemes() -> list[dict[str, str]]:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)", 1)
    return [dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", part)) for part in (light, dark)]


def contrast(one: str, other: str) -> float:
    """WCAG 2: (lighter + 0.05) / (darker + 0.05) of the relative luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("colours", schemes(), ids=["light", "dark"])
def test_text_is_readable_on_its_ground(colours: dict[str, str]) -> None:
    grounds = ["--ground", "--panel"]
    pairs = {("--ink", ground) for ground in [*grounds, "--good-ground", "--warn-ground", "--bad-ground"]}
    pairs |= {(name, ground) for name in ("--muted", *(f"--role-{i}" for i in range(1, 7))) for ground in grounds}
    pairs |= {(f"--{level}", ground) for level in ("good", "warn", "bad") for ground in ("--panel", f"--{level}-ground")}
    pairs.add(("--warn", "--ground"))
    weak = {pair: round(contrast(*(colours[name] for name in pair)), 2) for pair in pairs}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}
