"""A page of HTML that needs nothing beside it: pictures are in it, and all text is escaped."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

_THUMBNAIL = 84  # pixels, as large as a picture is shown
_STYLE = """
:root { --ink: #1c2330; --soft: #5b6575; --line: #e1e5eb; --tint: #f6f8fb; --mark: #0f62a8; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink); margin: 0; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 40px 0 8px; padding-top: 12px; border-top: 2px solid var(--line); }
h3 { font-size: 16px; margin: 4px 0 6px; }
h4 { font-size: 14px; margin: 14px 0 4px; color: var(--soft); font-weight: 600; }
p { max-width: 860px; margin: 6px 0; }
.soft { color: var(--soft); font-size: 13px; }
nav a { margin-right: 16px; color: var(--mark); text-decoration: none; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; margin: 12px 0; }
.row { display: flex; flex-wrap: wrap; gap: 10px; align-items: flex-start; }
.item { width: 128px; font-size: 12px; line-height: 1.3; }
.item img { display: block; width: 84px; height: 84px; object-fit: contain;
  background: var(--tint); border-radius: 4px; margin-bottom: 3px; }
.item .name { overflow: hidden; overflow-wrap: anywhere; display: -webkit-box; -webkit-box-orient: vertical;
  -webkit-line-clamp: 5; }
.item.wide { width: 190px; }
.item .soft { font-size: 11px; }
.item.hit { outline: 2px solid #1a7f37; outline-offset: 3px; border-radius: 4px; }
.word { display: inline-block; background: var(--tint); border-radius: 12px; padding: 1px 9px; margin: 2px; }
table { border-collapse: collapse; margin: 6px 0; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top;
  font-size: 13px; }
th { font-weight: 600; width: 130px; }
.tokens span { padding: 1px 3px; border-radius: 3px; }
figure { margin: 8px 0; overflow-x: auto; }
figure img { max-width: 100%; }
figcaption { color: var(--soft); font-size: 13px; }
"""


def escaped(text: object) -> str:
    """Text as HTML shows it; what was escaped before (as in many catalogues) is not escaped twice."""
    return html.escape(html.unescape(str(text)))


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page."""
    head = f'<meta charset="utf-8"><title>{escaped(title)}</title><style>{_STYLE}</style>'
    # no browser asks any other place for anything, whatever a title holds
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    view = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    view += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{view}{head}</head><body><main>\n{body}\n</main></body></html>\n'


def paragraph(text: str, soft: bool = False) -> str:
    """A paragraph of plain text."""
    kind = "soft" if soft else "plain"
    return f'<p class="{kind}">{escaped(text)}</p>'


def figure(file: Path, caption: str) -> str:
    """A PNG, in the page itself."""
    data = base64.b64encode(file.read_bytes()).decode()
    picture = f'<img alt="{escaped(caption)}" src="data:image/png;base64,{data}">'
    return f"<figure>{picture}<figcaption>{escaped(caption)}</figcaption></figure>"


def thumbnail(pixels: np.ndarray | None) -> str:
    """A picture ``[3, H, W]`` (uint8), small, in the page itself; an empty place without one."""
    if pixels is None:
        return ""
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if max(picture.size) > _THUMBNAIL:
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def item(picture: str, title: str, note: str = "", hit: bool = False, wide: bool = False) -> str:
    """An item: its picture (of :func:`thumbnail`), its title, and a line about it."""
    kind = "item" + " hit" * hit + " wide" * wide
    below = f'<div class="soft">{escaped(note)}</div>' if note else ""
    name = f'<div class="name" title="{escaped(title)}">{escaped(title)}</div>'
    return f'<div class="{kind}">{picture}{name}{below}</div>'


def row(parts: Iterable[str]) -> str:
    """Parts side by side."""
    return '<div class="row">' + "".join(parts) + "</div>"


def card(parts: Iterable[str]) -> str:
    """Parts in a frame."""
    return '<div class="card">' + "".join(parts) + "</div>"


def words(each: Sequence[tuple[str, str]]) -> str:
    """Words, each with what is said when the mouse is on it."""
    return "".join(f'<span class="word" title="{escaped(note)}">{escaped(word)}</span>' for word, note in each)


def shaded(pieces: Sequence[str], shares: np.ndarray, most: float) -> str:
    """Pieces of a text, the darker the larger their ``shares [n]``; ``most`` is the darkest."""
    parts = []
    for piece, share in zip(pieces, shares.tolist(), strict=True):
        strength = share / most
        ink = "#fff" if strength > 0.6 else "inherit"
        colour = f"background:rgba(15,98,168,{strength:.2f});color:{ink}"
        parts.append(f'<span style="{colour}" title="{share:.1%}">{escaped(piece)}</span>')
    return '<span class="tokens">' + " ".join(parts) + "</span>"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Rows of a name and HTML."""
    lines = (f"<tr><th>{escaped(name)}</th><td>{cell}</td></tr>" for name, cell in rows)
    return f"<table>{''.join(lines)}</table>"
