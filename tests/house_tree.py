"""The tree of killswitch/ as the README prints it: each file with the first sentence of its docstring.

`python -m tests.house_tree` prints it; `python -m tests.house_tree --write` puts it between the markers of
README.md.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- tree -->", "<!-- /tree -->"
_COLUMN = 28


def tree(house: Path) -> str:
    """One line a file, folders last and indented, `__init__.py` shown as its folder's line."""
    return "\n".join([f"{house.name}/", *_lines(house, "  ")])


def block(text: str) -> str | None:
    """What stands between the markers of a README, without the code fence. None without markers."""
    found = re.search(f"{re.escape(BEGIN)}\n```text\n(.*?)\n```\n{re.escape(END)}", text, re.DOTALL)
    return found.group(1) if found else None


def written(text: str, new: str) -> str:
    """The README with `new` between its markers."""
    start, end = text.index(BEGIN), text.index(END)
    return f"{text[:start]}{BEGIN}\n```text\n{new}\n```\n{text[end:]}"


def _lines(folder: Path, indent: str) -> list[str]:
    entries = [e for e in sorted(folder.iterdir()) if e.name not in ("__pycache__", "__init__.py")]
    lines = []
    for entry in sorted(entries, key=lambda e: (e.is_dir(), e.name)):
        if entry.is_dir():
            lines.append(_line(indent + entry.name + "/", entry / "__init__.py"))
            lines += _lines(entry, indent + "  ")
        else:
            lines.append(_line(indent + entry.name, entry))
    return lines


def _line(name: str, file: Path) -> str:
    return f"{name:<{_COLUMN}} {_said(file)}".rstrip()


def _said(file: Path) -> str:
    if file.suffix != ".py" or not file.exists():
        return ""
    words = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    paragraph = " ".join(words.partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) (?=[A-Z`])", paragraph)[0].rstrip(".:")


if __name__ == "__main__":
    now = tree(ROOT / "killswitch")
    if "--write" in sys.argv[1:]:
        readme = ROOT / "README.md"
        readme.write_text(written(readme.read_text("utf-8"), now), "utf-8")
    else:
        print(now)
