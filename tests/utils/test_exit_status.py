import subprocess
import sys

import pytest

from recbole_perpeft import __main__
from recbole_perpeft.utils.errors import SettingError
from recbole_perpeft.utils.exit_status import exit_status


def raising(error: BaseException):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (lambda: None, 0, ""),
        (lambda: 1, 1, ""),
        (raising(SettingError("topk: 0 is too small.")), 2, "SettingError: topk: 0 is too small.\n"),
        (
            raising(KeyboardInterrupt()),
            130,
            "Interrupted. The same command goes on: finished runs are not repeated.\n",
        ),
    ],
)
def test_a_command_ends_with_a_status_and_one_line(command, status, said, capsys):
    assert exit_status(command) == status
    assert capsys.readouterr().err == said


def test_what_is_not_the_inputs_fault_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        exit_status(raising(ZeroDivisionError()))


def test_a_command_that_does_not_go_on_says_so(capsys):
    assert exit_status(raising(KeyboardInterrupt()), goes_on=False) == 130
    assert capsys.readouterr().err == "Interrupted. Nothing was written.\n"


def test_a_command_that_is_interrupted_while_it_is_imported_says_so(monkeypatch, capsys):
    monkeypatch.setattr(__main__, "import_module", lambda name: raising(KeyboardInterrupt())())
    assert __main__.main(["recommend"]) == 130
    assert capsys.readouterr().err == "Interrupted. Nothing was written.\n"


@pytest.mark.parametrize("options", [[], ["-u"]], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_ends_is_no_error(options, lines):
    code = "import sys; from recbole_perpeft.utils.exit_status import exit_status; sys.stdin.readline()\n"
    code += f"sys.exit(exit_status(lambda: print(*range({lines}), sep='\\n')))"
    command = [sys.executable, *options, "-c", code]
    ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ours.stdout.close()
    ours.stdout = None
    _, said = ours.communicate("go on\n", timeout=60)
    assert (ours.returncode, said) == (141, "")


def test_another_pipe_that_breaks_is_an_error():
    with pytest.raises(BrokenPipeError):
        exit_status(raising(BrokenPipeError()))
