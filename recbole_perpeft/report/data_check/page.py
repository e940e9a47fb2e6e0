"""What a check has found, as one page of HTML that needs no other file and no network."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np

from recbole_perpeft.content.pictures import UnreadablePicture, open_picture
from recbole_perpeft.report.data_check.findings import Findings, SampleItem
from recbole_perpeft.report.data_check.screen import verdict

_SIDE = 160  # pixels of a sample's picture
_BARS, _HEIGHT, _BAR_WIDTH = 40, 80, 12

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }}
body {{ overflow-wrap: anywhere; }}
th {{ text-align: left; font-weight: normal; color: #555; width: 11em; padding-right: 1em; }}
th, td {{ vertical-align: top; }}
svg {{ max-width: 100%; display: block; }}
.problem {{ white-space: pre-wrap; border-left: 4px solid; padding: 0.3em 1em; margin: 0.5em 0; }}
.error {{ border-color: #b00020; background: #fdecee; }}
.warning {{ border-color: #b26a00; background: #fff5e5; }}
.items {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 1em; }}
.items img {{ max-width: 160px; max-height: 160px; display: block; }}
figure {{ margin: 0; }}
figcaption span {{ display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 5; overflow: hidden; }}
small {{ color: #555; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{verdict}</p>
{problems}
{sections}
{histograms}
{sample}
</body>
</html>
"""


def as_html(findings: Findings) -> str:
    """A page with problems, figures, histograms of lengths and a sample of items; words of the data are escaped."""
    problems = "\n".join(
        f'<p class="problem {problem.kind}"><b>{problem.kind}</b> {_text(problem.text)}</p>'
        for problem in sorted(findings.problems)  # errors before warnings
    )
    sections = "\n".join(_section(name, figures) for name, figures in findings.sections.items())
    histograms = "\n".join(_histogram(name, values) for name, values in findings.lengths.items() if values)
    sample = "\n".join(map(_item, findings.sample))
    if sample:
        sample = f'<h2>Some items</h2>\n<div class="items">\n{sample}\n</div>'
    return _PAGE.format(
        title=_text(f"Data set {findings.title}"),
        verdict=_text(verdict(findings)),
        problems=problems,
        sections=sections,
        histograms=histograms,
        sample=sample,
    )


def _section(name: str, figures: Sequence[tuple[str, str]]) -> str:
    rows = "\n".join(f"<tr><th>{_text(what)}</th><td>{_text(figure)}</td></tr>" for what, figure in figures)
    return f"<h2>{_text(name)}</h2>\n<table>\n{rows}\n</table>"


def _histogram(name: str, values: Sequence[int]) -> str:
    """Bars of how often each value is there; those above the 99th percentile stand in the last bar."""
    values = np.asarray(values)
    highest = max(int(np.percentile(values, 99)), int(values.min()) + 1)
    width = -(-(highest - int(values.min()) + 1) // _BARS)  # of whole numbers, so that no bar has more of them
    places = (np.minimum(values, highest) - values.min()) // width
    counts = np.bincount(places)
    bars = "".join(
        f'<rect x="{number * _BAR_WIDTH}" y="{_HEIGHT - height:.1f}" width="{_BAR_WIDTH - 2}" height="{height:.1f}" '
        f'fill="#4a6fa5"><title>{_range(values.min() + number * width, width)}: {count:,}</title></rect>'
        for number, count in enumerate(counts)
        for height in [_HEIGHT * count / counts.max()]
    )
    ends = f"{values.min():,} to {highest:,}{' and more' if highest < values.max() else ''}"
    length = len(counts) * _BAR_WIDTH
    attributes = f'viewBox="0 0 {length} {_HEIGHT + 1}" width="{length}" role="img" aria-label="{_text(name)}"'
    ground = f'<path d="M0 {_HEIGHT + 0.5}H{length - 2}" stroke="#888"></path>'
    highest_bar = int(counts.argmax())
    most = f"{_range(values.min() + highest_bar * width, width)}: {counts[highest_bar]:,} of {len(values):,}"
    return (
        f"<h3>{_text(name.capitalize())}: {ends}</h3>\n<svg {attributes}>{bars}{ground}</svg>\n"
        f"<small>The highest bar is of {most}.</small>"
    )


def _range(first: int, width: int) -> str:
    return f"{first:,}" if width == 1 else f"{first:,} to {first + width - 1:,}"


def _item(item: SampleItem) -> str:
    text = f'<span title="{_text(item.text)}">{_text(item.text)}</span>' if item.text else "<i>no text</i><br>"
    words = f"{text}<small>{_text(item.item_id)}</small>"
    return f"<figure>{_picture(item.picture)}<figcaption>{words}</figcaption></figure>"


def _picture(file: Path | None) -> str:
    if file is None:
        return "<p><i>no picture</i></p>"
    try:
        picture = open_picture(file)
    except UnreadablePicture as error:
        return f"<p><i>{_text(str(error))}</i></p>"
    picture.thumbnail((_SIDE, _SIDE))
    data = BytesIO()
    picture.save(data, "JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}">'


def _text(text: str) -> str:
    return escape(text.encode("utf-8", "replace").decode())  # a lone surrogate has no place in UTF-8
