"""How do our pages look? One file without a script or an outside address, light or dark as the reader likes it, and readable
on a telephone: what is wide is moved by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from autoscaler.commands.drawing import colour, sign
from autoscaler.commands.plots import ROLE_COLOURS, ROLE_DASHES

STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --paper: #fff; --dim: #6a6a70; --area: #e6e6e9; --win: #d8f0df; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --paper: #161618; --dim: #9a9aa2; --area: #333338; --win: #1f4a30; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; color: var(--ink);
  background: var(--paper); } .lead { font-size: 17px; } a { color: inherit; } h2 { margin-top: 2em; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; } td, th { padding: 3px 8px; text-align: right; }
td:first-child, th:first-child { text-align: left; white-space: pre; } th { border-bottom: 1px solid var(--dim);
  vertical-align: bottom; font-weight: 600; } .below, tr.below { color: var(--dim); } td.win { background: var(--win);
  font-weight: 700; } td.words { text-align: left; } svg { max-width: 100%; height: auto; }
svg text { font-size: 11px; fill: var(--ink); } figure { display: inline-block; margin: 6px; vertical-align: top; }
figcaption { font-size: 12px; } .key { white-space: nowrap; margin-right: 12px; } .stroke { display: inline-block; width: 22px;
  vertical-align: middle; margin-right: 4px; } .note { font-size: 13px; color: var(--dim); }
.alarm { border-left: 4px solid #d55e00; padding-left: 10px; } .answer { border-left: 4px solid #009e73; padding-left: 10px; }
code { font-size: 13px; } abbr { text-decoration: none; border-bottom: 1px dotted; cursor: help; } dt { font-weight: 600; }
dl { display: grid; grid-template-columns: max-content auto; gap: 2px 16px; } dd { margin: 0; }
@media (max-width: 600px) { body { margin: 1em auto; } dl { display: block; } dd { margin-bottom: 6px; }
  figure { margin: 6px 0; } }
"""


def document(title: str, *parts: str) -> str:
    """The whole file."""
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>',
            f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>",
            *parts,
            "</body></html>",
        )
    )


def key(placed: Mapping[str, int]) -> str:
    """Whose mark is which, by their numbers."""
    return " ".join(
        f'<span class="key"><span style="color:{colour(place)}">{sign(place)}</span> {escape(name)}</span>'
        for name, place in placed.items()
    )


def roles_key() -> str:
    """Whose line is which."""
    lines = {role: "solid" if ROLE_DASHES[role] == "none" else "dashed" for role in ROLE_COLOURS}
    return " ".join(
        f'<span class="key"><span class="stroke" style="border-top:3px {line} {ROLE_COLOURS[role]}"></span>{role}, {line}</span>'
        for role, line in lines.items()
    )
