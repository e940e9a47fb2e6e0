"""The table of settings against the YAML files, and what follows from it."""

import re

import pytest

from recbole_perpeft.config.settings import PROPERTIES, known_settings, read_yaml
from recbole_perpeft.config.table import GONE, SETTINGS, Kind, Range, of_kind
from recbole_perpeft.utils.errors import SettingError

OURS = [PROPERTIES / "overall.yaml", *sorted((PROPERTIES / "model").glob("*.yaml"))]
TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}


def commented(file):
    """Type in the comment of each setting of a YAML file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    found = (re.match(r"^(\w+):[^#]*# \((\w+)\) ", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.stem)
def test_every_setting_of_our_files_is_in_the_table_with_the_type_of_its_comment(file):
    settings, comments = read_yaml(file), commented(file)
    assert settings.keys() <= SETTINGS.keys()
    assert {key: TYPES[name] for key, name in comments.items()} == {key: SETTINGS[key].type for key in comments}
    for key, value in settings.items():
        possible = SETTINGS[key].possible
        values = value if isinstance(value, list) else [value]
        assert value is None or not isinstance(possible, Range) or all(one in possible for one in values)


def test_every_setting_of_the_table_is_read_by_somebody():
    of_launchers = {"ip", "port", "nproc", "world_size", "offset"}  # RecBole's own, which it adds to the settings
    assert SETTINGS.keys() - of_launchers <= known_settings().keys()


def test_every_setting_of_perpeft_models_says_its_type():
    file = PROPERTIES / "model" / "PerPEFT.yaml"
    assert commented(file).keys() == read_yaml(file).keys()


@pytest.mark.parametrize(
    ("range_", "inside", "outside", "said"),
    [
        (Range(1, whole=True), [1, 10**9], [0, 1.0, True, "1"], "a whole number from 1 up"),
        (Range(0), [0, 0.5, 7], [-0.1, False, "1"], "a number from 0 up"),
        (Range(0, 1), [0, 1, 0.3], [-1, 1.01], "a number from 0 to 1"),
        (Range(0, ends=False), [0.1, 5], [0, -1], "a number above 0, or ~"),
        (Range(0, 1, ends=False), [0.1, 0.9], [0, 1], "between 0 and 1, or ~"),
    ],
)
def test_a_range_says_what_it_has(range_, inside, outside, said):
    assert all(value in range_ for value in inside)
    assert not any(value in range_ for value in outside)
    assert str(range_) == said


def test_what_may_change_is_never_what_a_result_depends_on_otherwise():
    assert not of_kind(Kind.PLACE) & (of_kind(Kind.CHANGEABLE) | of_kind(Kind.PROTOCOL) | of_kind(Kind.GROUPS))
    assert not of_kind(Kind.CHANGEABLE) & of_kind(Kind.PROTOCOL)


@pytest.mark.parametrize("key", ["nproc", "world_size", "ip", "port", "group_offset"])
def test_what_starts_processes_is_no_setting(tiny, key):
    with pytest.raises(SettingError, match=f"{key} is no setting.*give --{key} to run_recbole_perpeft.py"):
        tiny(**{key: 2})


@pytest.mark.parametrize("key", GONE)
def test_a_setting_that_is_gone_says_what_to_do_without_it(tiny, key):
    assert key not in known_settings()
    with pytest.raises(SettingError, match=f"{key} is gone. .*docs/changelog.md"):
        tiny(**{key: 1})
