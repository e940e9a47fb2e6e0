"""The index of benchmarks/ and its folders of results agree, and commands can be given as they stand."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from recbole_perpeft.config.settings import known_settings

ROOT = Path(__file__).parent.parent
INDEX = ROOT / "benchmarks" / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
FILES = {"command.sh", "settings.yaml", "table.md", "table.json", "note.md"}
FOLDERS = sorted(str(note.parent.relative_to(RESULTS)) for note in RESULTS.glob("*/*/note.md"))
# in place of python: prints its words
ECHO = 'python() { printf "%s\\n" "$@"; }\n'


def words_of(folder):
    """What the commands of a result are given, a word a line, after the shell has put its variables in."""
    script = ECHO + (RESULTS / folder / "command.sh").read_text(encoding="utf-8").replace("mkdir -p", ": ")
    places = {**os.environ, "DATASETS": "datasets", "MINILM": "minilm", "VIT": "vit", "POSTERS": "posters"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, env=places)
    return done.stdout.splitlines()


def is_of_a_former_build(folder):
    return "# at commit " in (RESULTS / folder / "command.sh").read_text(encoding="utf-8")


def test_the_index_is_short_and_links_to_every_result():
    text = INDEX.read_text(encoding="utf-8")
    assert len(text.encode()) <= 8192
    assert sorted(re.findall(r"\(results/([^)]+)/\)", text)) == FOLDERS
    assert sorted({str(file.parent.relative_to(RESULTS)) for file in RESULTS.rglob("*") if file.is_file()}) == FOLDERS


def test_scores_of_the_index_stand_in_the_tables():
    lines = re.findall(r"^\| \[[^]]+\]\(results/([^)]+)/\) \|(.*)$", INDEX.read_text(encoding="utf-8"), re.MULTILINE)
    scores = [(folder, score) for folder, line in lines for score in re.findall(r"\b0\.\d{4}\b", line)]
    assert len(scores) > 50
    for folder, score in scores:
        assert score in (RESULTS / folder / "table.md").read_text(encoding="utf-8"), (folder, score)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_result_has_its_files_and_both_tables_say_the_same(folder):
    place = RESULTS / folder
    assert {file.name for file in place.iterdir()} - {"chart.png"} == FILES
    settings = (place / "settings.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(settings)
    assert ": /" not in settings  # a path of one machine
    table = json.loads((place / "table.json").read_text(encoding="utf-8"))
    printed = (place / "table.md").read_text(encoding="utf-8").replace("**", "").splitlines()
    for row in table.get("rows", []):
        for score in row["test"].values() if isinstance(row.get("test"), dict) else ():
            (line,) = (line for line in printed if line.startswith(f"| {row['row']} |"))
            spread = "" if score["std"] is None else f" ± {score['std']:.4f}"  # one seed has none
            assert f" {score['mean']:.4f}{spread} " in line


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_command_names_settings_and_files_that_there_are(folder):
    words = words_of(folder)
    if not is_of_a_former_build(folder):
        settings = [re.match(r"(?:--)?(\w+)=", word) for word in words]
        keys = {match[1] for match in settings if match} | {
            key.split("=")[0] for word in words if ":" in word and "=" in word for key in word.split(":")[1].split(",")
        }
        assert keys <= known_settings().keys()
        files = [word for word in words if word.endswith((".yaml", ".py")) and "=" not in word]
        assert [file for file in files if not (ROOT / file).is_file()] == []


def test_every_file_of_settings_is_used_by_a_command():
    used = {word for folder in FOLDERS for word in words_of(folder) if word.endswith(".yaml")}
    assert sorted(str(f.relative_to(ROOT)) for f in (ROOT / "benchmarks" / "settings").rglob("*.yaml")) == sorted(
        word for word in used if (ROOT / word).is_file()
    )
