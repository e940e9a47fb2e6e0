"""Writes docs/settings.md from the comments in properties/: ``python docs/make_settings.py``."""

import re
from pathlib import Path

from recbole_perpeft.config.table import SETTINGS, Kind, of_kind, values_of

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "overall.yaml": "Of every run",
    "model/Content.yaml": "Of models that read pictures and titles",
    "model/PerPEFT.yaml": "Of PerPEFT models",
    "model/PerPEFTGeneral.yaml": "Of general PerPEFT models, where others differ",
    "model/PerPEFTLightGCN.yaml": "Of PerPEFTLightGCN, where others differ",
    "model/ContentNeighbours.yaml": "Of content neighbours",
}
_LINE = re.compile(r"^(?P<key>\w+): *(?P<value>[^#]*?)(?: *# (?P<text>.*))?$")
_MORE = re.compile(r"^ +# (?P<text>.*)$")
_TYPE = re.compile(r"^\((?:str|int|float|bool|list|dict)\) ")
_KINDS = {
    Kind.CHANGEABLE: "These may change when a training goes on (`--resume`); the log names them",
    Kind.PROTOCOL: "These may differ when a trained model is measured, but not when its training goes on",
    Kind.PLACE: "No number depends on these: they may differ always",
    Kind.GROUPS: "Stage 1 does not depend on these: runs that differ in them alone share it in a comparison",
}
_TITLE = re.compile(r"^# (?P<text>[^.]*)$")


def page() -> str:
    """The page: a table for each file, with a row for each setting."""
    parts = ["# Settings\n\nThis page is made from the comments in `properties/` by `python docs/make_settings.py`."]
    for file, title in FILES.items():
        parts.append(
            f"## {title}\n\n`properties/{file}`\n\n| setting | default | values | what it does |\n|---|---|---|---|"
        )
        parts[-1] += "".join(
            f"\n| {key} | {default} | {values} | {text} |"
            for key, default, values, text in _rows(ROOT / "properties" / file)
        )
    parts.append("## What may change\n\nEvery other setting must be as it was when a run goes on.")
    parts += [
        f"{said}: " + ", ".join(f"`{key}`" for key in sorted(of_kind(kind))) + "." for kind, said in _KINDS.items()
    ]
    return "\n\n".join(parts) + "\n"


def _rows(file: Path) -> list[list[str]]:
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if found := _LINE.match(line):
            default = f"`{found['value']}`" if found["value"] else "several parts"
            text = _TYPE.sub("", found["text"] or "")
            rows.append([f"`{found['key']}`", default, _values(found["key"]), text])
        elif rows and (found := _MORE.match(line)):
            rows[-1][-1] += " " + found["text"]
        elif found := _TITLE.match(line):
            rows.append([f"**{found['text']}**", "", "", ""])
    return [[_escaped(cell) for cell in row] for row in rows]


def _values(key: str) -> str:
    """What the table of settings knows of its values."""
    setting = SETTINGS[key]
    names = values_of(key)
    if names:
        return ", ".join(f"`{name}`" for name in names)
    kinds = {str: "text", int: "whole number", float: "number", bool: "`True`, `False`", list: "list", dict: "parts"}
    return str(setting.possible) if setting.possible else kinds[setting.type]


def _escaped(cell: str) -> str:
    for letter in "|<>*":
        cell = cell if letter == "*" and cell.startswith("**") else cell.replace(letter, f"\\{letter}")
    return cell


if __name__ == "__main__":
    (ROOT / "docs" / "settings.md").write_text(page(), encoding="utf-8")
