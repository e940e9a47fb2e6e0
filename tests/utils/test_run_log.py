"""A run leaves the process as it was: handlers, level and streams of the log, random generators."""

import logging
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_perpeft import quick_start
from recbole_perpeft.quick_start import objective_function, run
from recbole_perpeft.utils.errors import DataError, SettingError, TrainingError


class Kept(logging.Handler):
    """What a service or a notebook might have on the root logger."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


@pytest.fixture
def root():
    """The root logger with an application's handler on it, which is at level WARNING."""
    logger, kept = logging.getLogger(), Kept()
    logger.addHandler(kept)
    logger.setLevel(logging.WARNING)
    yield logger
    logger.removeHandler(kept)


def settings(tiny, **others):
    return tiny(model="SASRec", loss_type="CE", epochs=1, **others).settings()


def kept(root):
    return next(handler for handler in root.handlers if isinstance(handler, Kept))


def test_handlers_of_the_application_stay_and_every_run_has_its_own(tiny, root, capfd, tmp_path):
    handlers, streams = root.handlers[:], (sys.stdout, sys.stderr)
    for number in (1, 2, 3):  # the same settings within a second or two
        run(config_dict=settings(tiny))
        assert root.handlers == handlers
        assert root.level == logging.WARNING
        assert (sys.stdout, sys.stderr) == streams
        assert sum("test result" in text for text in kept(root).texts) == number
        files = list((tmp_path / "log" / "SASRec").glob("*.log"))
        assert len(files) == number
        assert [file.read_text().count("test result") for file in files] == [1] * number
        assert capfd.readouterr().err.count("test result") == 1
    with pytest.raises(DataError):  # after an error as well
        run(config_dict={**settings(tiny), "data_path": str(tmp_path / "nowhere")})
    assert root.handlers == handlers


def test_no_line_stands_twice_on_a_console_that_the_application_writes_to(tiny, root, capfd):
    console = logging.StreamHandler()
    root.addHandler(console)
    run(config_dict=settings(tiny))
    root.removeHandler(console)
    assert capfd.readouterr().err.count("test result") == 1


def test_a_candidate_of_a_search_is_silent_and_leaves_the_level(tiny, root, capfd):
    handlers = root.handlers[:]
    assert objective_function(settings(tiny))["model"] == "SASRec"
    assert root.handlers == handlers
    assert root.level == logging.WARNING
    assert "test result" not in capfd.readouterr().err


def test_random_generators_and_cudnn_are_as_before(tiny):
    def draws():
        return random.random(), np.random.random(), torch.rand(3).tolist()

    def seed():
        random.seed(1), np.random.seed(2), torch.manual_seed(3)

    seed()
    expected = draws()
    seed()
    cudnn = torch.backends.cudnn
    cudnn.benchmark, cudnn.deterministic = True, False
    first = run(config_dict=settings(tiny))
    assert draws() == expected
    assert (cudnn.benchmark, cudnn.deterministic) == (True, False)
    cudnn.benchmark = False
    assert run(config_dict=settings(tiny))["test_result"] == first["test_result"]  # whatever the application draws


def test_a_folder_that_cannot_be_made_is_named(tiny, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="file/saved cannot be made"):
        run(config_dict=settings(tiny, checkpoint_dir=str(Path("file") / "saved")))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_disk_that_fills_up_in_a_run_is_named_whatever_the_log_says(tiny, root, monkeypatch, tmp_path):
    def ends(*arguments, **named):
        log = next(handler for handler in root.handlers if isinstance(handler, logging.FileHandler))
        log.stream.close()
        log.stream = open("/dev/full", "w")  # noqa: SIM115
        log.stream.write("lost")
        with open("/dev/full", "wb", buffering=0) as file:
            try:
                file.write(b"an event")
            except OSError as error:
                error.add_note("To go on: so.")
                raise

    monkeypatch.setattr(quick_start, "_fit_and_test", ends)
    with pytest.raises(
        TrainingError, match=r"A disk is full: \[Errno 28\] No space left.*checkpoint_dir: .*Free"
    ) as caught:
        run(config_dict=settings(tiny))
    assert str(tmp_path) in str(caught.value)
    assert caught.value.__notes__ == ["To go on: so."]
