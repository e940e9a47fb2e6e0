"""Writes the section "Sources" of docs/prepare.md from the table of sources: ``python docs/make_prepare.py``."""

from pathlib import Path

from recbole_perpeft.data.sources.registry import SOURCES
from recbole_perpeft.data.sources.source import Argument, Source

FILE = Path(__file__).resolve().parent / "prepare.md"
HEADING = "## Sources\n"


def page(text: str) -> str:
    """The page, with the section made anew."""
    before, _, rest = text.partition(HEADING)
    _, mark, after = rest.partition("\n## ")
    return before + HEADING + "\n" + "\n".join(map(_section, SOURCES.values())) + mark + after


def _section(source: Source) -> str:
    places = " ".join(f"[{one.name}]" if one.options.get("nargs") == "?" else one.name
                      for one in source.arguments if not one.name.startswith("--"))  # fmt: skip
    rows = "".join(f"| {_name(one)} | {one.help.replace('|', chr(92) + '|')} |\n" for one in source.arguments)
    return (
        f"### `{source.name}`: {source.summary}\n\n`prepare {source.name} {places}` reads {source.reads}.\n\n"
        f"| argument | |\n|---|---|\n{rows}"
    )


def _name(argument: Argument) -> str:
    choices = argument.options.get("choices")
    said = f"`{argument.name}`" + (" (needed)" if argument.options.get("required") else "")
    return said + (f": {', '.join(choices)}" if choices else "")


if __name__ == "__main__":
    FILE.write_text(page(FILE.read_text(encoding="utf-8")), encoding="utf-8")
