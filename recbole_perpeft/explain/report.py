"""The report: findings as a page and as figures in a folder."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path

import numpy as np

from recbole_perpeft.explain import figures, page
from recbole_perpeft.explain.findings import GLOBAL, Findings, ItemFinding, find, name_of
from recbole_perpeft.explain.subject import Subject, open_subject
from recbole_perpeft.explain.users import UserLists, principal_components
from recbole_perpeft.utils.errors import RequestError
from recbole_perpeft.utils.files import replacing

FILE, FIGURES = "report.html", "figures"
_HISTORY = 10  # purchases shown, the newest
_DROPPED = {"encoder", "layers", "layer", "self_attn", "attention", "self", "blocks"}  # of layers' names
_WORDS = (
    "How much more likely an item, or a word of the titles, is among a group's training purchases than among all "
    "others': log-odds ratios with an informative Dirichlet prior, in standard deviations (z). "
    "Shown is what is beyond 1.96."
)
_ATTENTION = (
    "Attention of the last layer at the position that the feature reads, mean over the heads: the one layer whose "
    "attention goes into the feature directly, at the top where modules adapt. Special tokens (and the class token) "
    "are left out, and the rest sums to one."
)


def explain(
    checkpoint: str | Path,
    out: str | Path,
    settings: dict | None = None,
    items: Sequence[str] = (),
    users: Sequence[str] = (),
    tell: Callable[[str], None] = print,
) -> Path:
    """Write a report of what a run has trained.

    Parameters
    ----------
    checkpoint
        What the run wrote, or a bundle of it.
    out
        A folder, which gets ``report.html`` and ``figures/``; those of before are replaced.
    settings
        Those that have changed since, such as a moved ``data_path``.
    items, users
        Ids of those to show; by default some, by a rule that the report states.
    tell
        Gets a line before each part of the work.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    RequestError
        If an item or a user is unknown, or the folder cannot be written.
    BundleError, CheckpointError
        As :meth:`~recbole_perpeft.serving.recommender.Recommender.load`.
    """
    figures.check_matplotlib()
    out = Path(out)
    with _figures_beside(out) as folder:
        subject = open_subject(checkpoint, settings)
        found = find(subject, items, users, tell)
        tell("the report")
        kind = "bundle" if Path(checkpoint).is_dir() else "checkpoint"
        with _writing(out), replacing(out / FILE) as new_page:
            text = Report(subject, found, folder).text(f"{kind} {Path(checkpoint).name}")
            new_page.write_text(text, encoding="utf-8")
            for file in folder.iterdir():
                os.replace(file, out / FIGURES / file.name)
    return out / FILE


@contextmanager
def _figures_beside(out: Path) -> Iterator[Path]:
    """A folder for new figures beside the old ones; of what is made for it nothing is left that is empty in the end."""
    temporary = out / f".{FIGURES}.{os.getpid()}.tmp"
    new = [place for place in (out / FIGURES, out, *out.parents) if not place.exists()]
    try:
        with _writing(out):
            temporary.mkdir(parents=True)
            (out / FIGURES).mkdir(exist_ok=True)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for place in new:
            with suppress(OSError):  # the report is in it
                place.rmdir()


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RequestError(
            f"--out: {out} cannot be written: {error}. Free the disk, or name another folder."
        ) from error


class Report:
    """Findings as text.

    Parameters
    ----------
    subject
        The model.
    found
        What is told of it.
    folder
        Where figures go.
    """

    def __init__(self, subject: Subject, found: Findings, folder: Path):
        self._subject, self._found, self._folder = subject, found, folder

    def text(self, name: str) -> str:
        """The page of what is called ``name``."""
        config = self._subject.config
        sections = {
            "Groups": self._groups(),
            "Items": self._items(),
            "Users": self._users(),
            "Modules": self._modules(),
            "Not shown": [page.paragraph(note) for note in self._found.notes],
        }
        sections = {title: parts for title, parts in sections.items() if parts}
        heading = f"What {config['model']} learnt of {config['dataset']}"
        links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in sections)
        parts = [f"<h1>{page.escaped(heading)}</h1>", page.paragraph(self._facts(name), soft=True)]
        parts += [f"<nav>{links}</nav>", *(page.paragraph(remark) for remark in self._subject.remarks)]
        for title, body in sections.items():
            parts += [f'<h2 id="{_anchor(title)}">{title}</h2>', *body]
        return page.page(heading, parts)

    def _facts(self, name: str) -> str:
        subject, config = self._subject, self._subject.config
        facts = [name, f"{len(subject.sequences):,} users", f"{len(subject.tokens) - 1:,} items"]
        if subject.has_tower:
            encoder = subject.encoder
            reach, name = ("", encoder.name) if subject.is_bundle else (f" ({encoder.reach})", encoder.foundation.name)
            facts += [f"{config['peft_type']}{reach}", f"encoder {name}"]
        if subject.groups:
            facts.append(f"{len(subject.groups)} groups by {config['grouping']}")
        return " · ".join(facts)

    # -- sections ---------------------------------------------------------------------------------------------------

    def _groups(self) -> list[str]:
        if not self._found.groups:
            return []
        found = self._found.users_map
        file = self._folder / "groups_map.png"
        figures.draw_map(file, *principal_components(found.representations), found.groups)
        whose = "stage 1's" if self._subject.has_stage_1 else "group 0's"
        caption = (
            "Users who trained, by the first two principal components of their sequence representation under "
            f"{whose} module. Groups that predict well need not lie apart in two dimensions."
        )
        parts = [page.paragraph(_WORDS, soft=True), page.figure(file, caption)]
        for group in self._found.groups:
            said = [(str(word.kind), f"z {word.z:.1f}, {word.times} purchases") for word in group.words]
            items = [
                self._item(each.kind, f"{each.times} purchases, {each.ratio:.1f} times its share, z {each.z:.1f}")
                for each in group.items
            ]
            head = f"{name_of(group.group)}: {group.users:,} users, {group.purchases:,} training purchases"
            parts.append(page.card([f"<h3>{page.escaped(head)}</h3>", page.words(said), page.row(items)]))
        return parts

    def _items(self) -> list[str]:
        if not self._found.items:
            return []
        parts = [page.paragraph(f"Which items: {self._found.item_rule}", soft=True)]
        if any(each.of_tokens or each.of_patches for each in self._found.items):
            parts.append(page.paragraph(_ATTENTION, soft=True))
        for finding in self._found.items:
            parts.append(page.card(self._one_item(finding)))
        return parts

    def _one_item(self, finding: ItemFinding) -> list[str]:
        token = self._subject.tokens[finding.item]
        agree = "" if finding.agreement is None else f"mean cosine between groups {finding.agreement:.2f}"
        parts = [page.row([self._item(finding.item, f"item {token}", wide=True), f'<div class="soft">{agree}</div>'])]
        if finding.of_tokens:
            most = max(weights.max() for weights in finding.of_tokens.values())
            shades = [(n, page.shaded(finding.tokens.pieces, w, most)) for n, w in finding.of_tokens.items()]
            parts += ["<h4>Attention over the title</h4>", page.table(shades), _elsewhere(finding.of_tokens)]
            figures.draw_tokens(self._file(finding, "title"), finding.tokens.pieces, finding.of_tokens)
        if finding.of_patches:
            picture = self._subject.content.pixels[finding.item].transpose(1, 2, 0)  # [H, W, 3]
            file = self._file(finding, "picture")
            figures.draw_patches(file, np.asarray(picture), finding.of_patches)
            parts += ["<h4>Attention over the picture</h4>", page.figure(file, "The brighter, the more.")]
            parts.append(_elsewhere(finding.of_patches))
        rows = [
            (name, page.row(self._item(item, f"cosine {cosine:.2f}") for item, cosine in near))
            for name, near in finding.nearest.items()
        ]
        return [*parts, "<h4>Nearest items</h4>", page.table(rows)]

    def _users(self) -> list[str]:
        if not self._found.users:
            return []
        said = "Lists are as in the test: what a user had bought is left out, and the held-out purchase is framed."
        parts = [page.paragraph(f"Which users: {self._found.user_rule}", soft=True), page.paragraph(said, soft=True)]
        return parts + [page.card(self._one_user(lists)) for lists in self._found.users]

    def _one_user(self, lists: UserLists) -> list[str]:
        subject = self._subject
        whose = "" if lists.group is None else f", {name_of(lists.group)}"
        parts = [f"<h3>{page.escaped(f'user {subject.name_of_user(lists.user)}{whose}')}</h3>"]
        rows = [("bought, newest last", page.row(self._item(item) for item in lists.history[-_HISTORY:]))]
        rows.append(("held out", page.row(self._item(item, hit=True) for item in lists.held_out)))
        for name in sorted(lists.lists, key=GLOBAL.__eq__):  # last
            items = lists.lists[name]
            rank = "" if lists.ranks[name] is None else f": held-out purchase at rank {lists.ranks[name]}"
            rows.append((name + rank, page.row(self._item(item, hit=item in lists.held_out) for item in items)))
        return [*parts, page.table(rows)]

    def _modules(self) -> list[str]:
        found = self._found
        if found.movement is None:
            return []
        file = self._folder / "modules.png"
        names = [name_of(group) for group in self._subject.groups]
        figures.draw_movement(file, found.movement, names, _short(found.layers))
        what = "change of the merged weight (B A times its scale)" if self._merges() else "parameters"
        caption = (
            f"How far each group's module is from the one of stage 1 that it started from: the norm of the difference "
            f"of the {what}, over the norm of stage 1's, layer by layer."
        )
        return [page.figure(file, caption)]

    def _merges(self) -> bool:
        return any("lora_" in name for name, _ in self._subject.encoder.adapter_parameters(0))

    # -- parts ------------------------------------------------------------------------------------------------------

    def _item(self, item: int, note: str = "", hit: bool = False, wide: bool = False) -> str:
        titles, pixels = self._subject.titles, getattr(self._subject.content, "pixels", None)
        picture = page.thumbnail(None if pixels is None else pixels[item])
        return page.item(picture, titles[item] if titles else self._subject.tokens[item], note, hit, wide)

    def _file(self, finding: ItemFinding, what: str) -> Path:
        place = self._found.items.index(finding) + 1  # ids of catalogues are no names of files
        return self._folder / f"item_{place}_{what}.png"


def _elsewhere(views: Mapping[str, np.ndarray]) -> str:
    """How much of the attention lies elsewhere under the two groups' modules that differ most (total variation)."""
    groups = [(name, weights) for name, weights in views.items() if name != GLOBAL]
    if len(groups) < 2:
        return ""
    pairs = [(np.abs(b - a).sum() / 2, m, n) for (m, a), (n, b) in combinations(groups, 2)]
    share, one, other = max(pairs, key=lambda pair: pair[0])
    said = f"{share:.1%} of the attention lies elsewhere under {one} and {other}, the two that differ most."
    return page.paragraph(said, soft=True)


def _anchor(title: str) -> str:
    return title.replace(" ", "-")


def _short(layers: Sequence[str]) -> list[str]:
    """Names of layers without the parts that tell nothing; as they are, if two would be the same."""
    short = [".".join(part for part in layer.split(".") if part not in _DROPPED) for layer in layers]
    return short if len(set(short)) == len(short) else list(layers)
