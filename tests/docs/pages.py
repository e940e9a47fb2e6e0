"""The project's pages in Markdown, read as a forge reads them."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "dataset/demo/README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/**/*.md")]
)
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language, in their order."""
    return [code for _, of, code in _FENCE.findall(text) if of == language]


def prose(text: str) -> str:
    """The text without its code blocks."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    """Targets of links and pictures, without those in code."""
    plain = re.sub(r"`[^`\n]*`", "code", prose(text))
    return re.findall(r"\]\(([^)\s]+)\)", plain)


def anchors(text: str) -> set[str]:
    """What a forge calls the headings: lower case, words joined by hyphens, repeats numbered."""
    seen, found = Counter(), set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found
