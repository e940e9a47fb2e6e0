"""docs/prepare.md follows from the table of sources, and its commands are such as the program takes."""

import re
import runpy
import shlex

import pytest
import yaml

from recbole_perpeft.commands.prepare import parser
from recbole_perpeft.config import Config
from recbole_perpeft.config.settings import known_settings, read_yaml
from recbole_perpeft.data.sources.registry import SOURCES
from tests.docs.pages import ROOT, blocks

PAGE = (ROOT / "docs/prepare.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(command)
    for block in blocks(PAGE, "bash")
    for command in block.replace("\\\n", " ").splitlines()
    if command.startswith("python ")
]
OURS = ["python", "-m", "recbole_perpeft", "prepare"]


def test_the_section_of_sources_is_made_anew_when_they_change():
    made = runpy.run_path(str(ROOT / "docs/make_prepare.py"))["page"](PAGE)
    assert made == PAGE, "Run python docs/make_prepare.py."


def test_commands_of_the_page_are_understood():
    known = known_settings()
    sources = set()
    for words in COMMANDS:
        if words[:4] == OURS:
            sources.add(parser().parse_args(words[4:]).source)
        else:
            assert words[1] == "run_recbole_perpeft.py"
            keys = {word.removeprefix("--").partition("=")[0] for word in words[2:]}
            assert keys <= known.keys()
    assert len(sources) > 3


@pytest.mark.parametrize("name", SOURCES)
def test_help_tells_what_a_source_reads(name, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args([name, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for argument in SOURCES[name].arguments:
        assert argument.name in said
    assert SOURCES[name].summary in said


def test_the_papers_data_sets_have_their_settings():
    names = re.findall(r"\| `(\w+)` \| `(amazon-\w+)` \|", PAGE)
    assert len(names) == 4
    for theirs, ours in names:
        file = (ROOT / "properties/dataset" / f"{ours}.yaml").read_text()
        assert yaml.safe_load(file) == {"text_fields": ["title"], "image_dir": "images"}
        assert f"prepare perpeft dataset {theirs} --out datasets --name {ours}" in file


TUNED = [
    (name, method, float(decay), f"properties/variant/paper/{file}")
    for name, row in re.findall(r"\| `(amazon-\w+)` \|(.*)", PAGE)
    for method, (decay, file) in zip(
        ("LORA", "IA3", "IISAN"), re.findall(r"\[(\S+)\]\(\.\./properties/variant/paper/(\S+)\)", row), strict=True
    )
]


def test_every_file_of_the_papers_settings_is_in_the_table_once():
    files = {str(file.relative_to(ROOT)) for file in (ROOT / "properties/variant/paper").iterdir()}
    assert {file for *_, file in TUNED} == files
    assert len(TUNED) == len(files) == 12


@pytest.mark.parametrize(("name", "method", "decay", "file"), TUNED)
def test_the_papers_settings_reach_a_run_as_the_page_has_them(name, method, decay, file, tmp_path):
    """Behind what prepare writes, as the page's command has them."""
    prepared = tmp_path / f"{name}.yaml"
    prepared.write_text(yaml.safe_dump({"dataset": name, "data_path": str(tmp_path), "text_fields": ["title"]}))
    paper = "properties/variant/paper.yaml"
    config = Config(None, None, [prepared, paper, file])
    found = {key: config[key] for key in ("dataset", "model", "peft_type", "weight_decay", "learning_rate")}
    assert found == {
        "dataset": name, "model": "PerPEFTSASRec", "peft_type": method, "weight_decay": decay, "learning_rate": 1e-4,
    }  # fmt: skip
    own, shared = read_yaml(ROOT / file), read_yaml(ROOT / paper)
    assert own.keys() == {"peft_type", "weight_decay"}
    assert {key: config[key] for key in shared if key not in own} == {
        key: value for key, value in shared.items() if key not in own
    }
    assert name in file
