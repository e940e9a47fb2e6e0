"""Writes docs/settings.md from the comments in properties/: ``python docs/make_settings.py``."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "overall.yaml": "Of every run",
    "model/PerPEFT.yaml": "Of PerPEFT models",
    "model/PerPEFTGeneral.yaml": "Of general PerPEFT models, where others differ",
}
_LINE = re.compile(r"^(?P<key>\w+): *(?P<value>[^#]*?)(?: *# (?P<text>.*))?$")
_MORE = re.compile(r"^ +# (?P<text>.*)$")
_TITLE = re.compile(r"^# (?P<text>[^.]*)$")


def page() -> str:
    """The page: a table for each file, with a row for each setting."""
    parts = ["# Settings\n\nThis page is made from the comments in `properties/` by `python docs/make_settings.py`."]
    for file, title in FILES.items():
        parts.append(f"## {title}\n\n`properties/{file}`\n\n| setting | default | what it does |\n|---|---|---|")
        parts[-1] += "".join(
            f"\n| {key} | {value} | {text} |" for key, value, text in _rows(ROOT / "properties" / file)
        )
    return "\n\n".join(parts) + "\n"


def _rows(file: Path) -> list[list[str]]:
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if found := _LINE.match(line):
            rows.append(
                [f"`{found['key']}`", f"`{found['value']}`" if found["value"] else "several parts", found["text"] or ""]
            )
        elif rows and (found := _MORE.match(line)):
            rows[-1][2] += " " + found["text"]
        elif found := _TITLE.match(line):
            rows.append([f"**{found['text']}**", "", ""])
    return [[_escaped(cell) for cell in row] for row in rows]


def _escaped(cell: str) -> str:
    for letter in "|<>*":
        cell = cell if letter == "*" and cell.startswith("**") else cell.replace(letter, f"\\{letter}")
    return cell


if __name__ == "__main__":
    (ROOT / "docs" / "settings.md").write_text(page(), encoding="utf-8")
