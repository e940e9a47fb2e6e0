"""``estimate``: what it prints, and what it refuses."""

import re
from pathlib import Path

import pytest

from recbole_perpeft.commands.estimate import main, seconds_of, size_of
from recbole_perpeft.utils.errors import EncoderError

DEMO = ["--dataset", "demo", "--items", "600", "--users", "800"]


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
            assert re.search(r": (next to nothing|[\d.,]+(e-\d+)? (s|min|h|bytes|[KMG]iB)\b)", line), line
    assert lines[-1].startswith("  4 epochs, 2 of them of stage 1, and the test: ")


@pytest.mark.parametrize(("words", "said"), [(["--items", "0"], "0 is not 1 or more"), ([], "--users")])
def test_numbers_that_cannot_be_are_refused(words, said, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--items", "3"])
    assert said in capsys.readouterr().err


def test_seconds_and_bytes_are_said_in_a_unit_that_fits():
    assert [seconds_of(some) for some in (0.012, 90, 300, 36_000)] == ["0.012 s", "90 s", "5 min", "10 h"]
    assert seconds_of(1e9) == "11,574 days"
    assert [size_of(some) for some in (5, 3000, 2**21, 3 * 2**29)] == ["5 bytes", "2.93 KiB", "2 MiB", "1.5 GiB"]
    assert size_of(2e12) == "1.82 TiB"


def test_settings_are_those_of_a_run_wherever_data_are(capsys):
    encoder = str(Path(__file__).parents[2] / "dataset" / "demo" / "encoder")
    words = ["--items", "600", "--users", "800", "--tflops", "0.1"]
    assert main([*words, f"--encoder={encoder}", "--epochs=6", "--num_groups=3"]) == 0
    said = capsys.readouterr().out
    assert "a validation in stage 3, 3 groups" in said
    assert "  6 epochs, 3 of them of stage 1, and the test: " in said
    with pytest.raises(EncoderError, match=r"encoder: .*nowhere"):
        main([*words, "--encoder=./nowhere"])
