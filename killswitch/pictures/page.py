"""The frame of every page: one file, light or dark as the reader has it, readable when printed."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final
from unicodedata import category

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLE: Final = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --quiet: #57606a; --rule: #d0d7de; --grid: #eaeef2;
  --limit: #b42318; --trip: #b42318; --warn: #9a6700; --unknown: #6e7781; --start: #57606a; --ok: #1a7f37;
  --hue0: #0b63c5; --hue1: #7b3fb5; --hue2: #0a7d74; --hue3: #b35900; --hue4: #a3246e; --hue5: #4b6a00;
  --hue6: #35589a; --hue7: #7a5230; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1419; --ink: #e6edf3; --quiet: #9aa6b2; --rule: #333c46;
  --grid: #1f262e; --limit: #ff7b72; --trip: #ff7b72; --warn: #e3b341; --unknown: #9aa6b2; --start: #9aa6b2;
  --ok: #56d364;
  --hue0: #6cb6ff; --hue1: #d2a8ff; --hue2: #4ecdc4; --hue3: #ffa657; --hue4: #ff9bce; --hue5: #b5d45a;
  --hue6: #a5c8ff; --hue7: #d9b38c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 60px; max-width: 1020px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 40px 0 2px; overflow-wrap: anywhere; }
p { margin: 4px 0 10px; } .quiet { color: var(--quiet); } .bad { color: var(--trip); font-weight: 600; }
.ok { color: var(--ok); font-weight: 600; } .warn { color: var(--warn); font-weight: 600; }
a { color: inherit; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 10px 0 4px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; color: var(--quiet); white-space: nowrap; } td.n, th.n { text-align: right; }
.t { white-space: nowrap; }
summary { cursor: pointer; color: var(--quiet); margin-top: 8px; }
svg.chart { display: block; width: 100%; height: auto; margin-top: 8px; }
svg .grid { stroke: var(--grid); } svg .axis { stroke: var(--quiet); }
svg .tick { fill: var(--quiet); font-size: 12px; }
svg path.line, svg path.limit { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
svg .limit { stroke: var(--limit); } svg path.limit { stroke-dasharray: 7 5; stroke-width: 1.4; }
svg .trip line { stroke: var(--trip); stroke-opacity: 0.6; } svg .trip path { fill: var(--trip); }
svg .warning path { fill: var(--warn); } svg .unknown rect { fill: var(--unknown); }
svg .start line { stroke: var(--start); stroke-dasharray: 2 4; }
@media screen and (max-width: 700px) { body { padding: 16px 12px 40px; } svg.chart { min-width: 640px; }
  .t { white-space: normal; } th, td { padding-right: 10px; } }
.key { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 4px 0 0; padding: 0; list-style: none;
  font-size: 13.5px; }
.key i { display: inline-block; width: 18px; height: 0; border-top: 3px solid; vertical-align: middle;
  margin-right: 6px; }
.key i.dash { border-top: 2px dashed var(--limit); }
""" + "\n".join(
    f"svg .hue{n} {{ stroke: var(--hue{n}); }} .key i.hue{n} {{ border-color: var(--hue{n}); }}" for n in range(8)
)


def page(title: str, body: str) -> str:
    """A whole document. `title` is text, `body` is HTML."""
    document = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
    # Labels are somebody else's: what turns the direction of writing, or is no character of HTML, must not get in.
    return "".join(c if category(c)[0] != "C" or c == "\n" else "\ufffd" for c in document)


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, numbers: tuple[int, ...] = ()) -> str:
    """A table of cells that are HTML; `numbers`: columns that are set flush right."""

    def cell(tag: str, column: int, held: str) -> str:
        return f'<{tag} class="n">{held}</{tag}>' if column in numbers else f"<{tag}>{held}</{tag}>"

    head = "".join(cell("th", n, escape(text)) for n, text in enumerate(heads))
    body = "\n".join(f"<tr>{''.join(cell('td', n, held) for n, held in enumerate(row))}</tr>" for row in rows)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'
