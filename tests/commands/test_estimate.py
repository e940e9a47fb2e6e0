"""``estimate``: what it prints, and what it refuses."""

import re

import pytest

from recbole_perpeft.commands.estimate import main, seconds_of, size_of

DEMO = ["--items", "600", "--users", "800", "--encoder=encoder"]


def test_every_part_is_printed_with_its_unit(capsys):
    assert main([*DEMO, "--peft_type=IISAN", "--epochs=4", "--tflops", "0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "Once",
        "Each time",
        "Memory",
        "Each group",
        "In all",
    ]
    for line in lines:
        if line.startswith(" "):
            assert re.search(r": (next to nothing|[\d.]+(e-?\d+)? (s|min|h|bytes|[KMG]iB)\b)", line), line
    assert lines[-1].startswith("  4 epochs, 2 of them of stage 1, and the test: ")


@pytest.mark.parametrize(("words", "said"), [(["--items", "0"], "0 is not 1 or more"), ([], "--users")])
def test_numbers_that_cannot_be_are_refused(words, said, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--items", "3"])
    assert said in capsys.readouterr().err


def test_seconds_and_bytes_are_said_in_a_unit_that_fits():
    assert [seconds_of(some) for some in (0.012, 90, 300, 36_000)] == ["0.012 s", "90 s", "5 min", "10 h"]
    assert [size_of(some) for some in (5, 3000, 2**21, 3 * 2**29)] == ["5 bytes", "2.93 KiB", "2 MiB", "1.5 GiB"]
