"""``python -m recbole_perpeft serve``: a process that answers until it is told to end, and what it refuses."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from recbole_perpeft.__main__ import main
from recbole_perpeft.serving.bundle import write_bundle
from recbole_perpeft.serving.recommender import Recommender
from tests.interpreter import ROOT


@pytest.fixture
def bundle(recorded, tmp_path):
    run = recorded()
    write_bundle(run.checkpoint(run.validated[-1]), tmp_path / "bundle")
    return str(tmp_path / "bundle")


def test_a_service_answers_and_ends_when_it_is_interrupted(bundle):
    command = [sys.executable, "-m", "recbole_perpeft", "serve", bundle, "--port", "0", "--use_gpu=False"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        address = process.stdout.readline().split(" on ")[1].split("/ until")[0]
        request = urllib.request.Request(
            f"{address}/recommend", json.dumps({"user": "u1", "k": 2}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            items = [item["item"] for item in json.load(answer)["items"]]
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert address.startswith("http://127.0.0.1:")
    assert items == Recommender.load(bundle).recommend(["u1"], k=2).item_id.tolist()
    assert process.returncode == 0
    assert "Traceback" not in said


def test_what_is_refused_before_anything_is_served(bundle, tmp_path, capsys, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", bundle, "--port", port]) == 2
    assert f"--port {port}: cannot be listened on" in capsys.readouterr().err
    for words, said in (
        (["--port", "99999"], "99999 is no port"),
        (["--host", "no.such.host.invalid"], "cannot be listened on"),
        (["--max_k", "0"], "max_k: 0 lets nothing in"),
        (["--max_kk=3"], "max_kk"),
    ):
        assert main(["serve", bundle, "--port", "0", *words]) == 2
        assert said in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "nothing"), "--port", "0"]) == 2
    assert "nothing does not exist" in capsys.readouterr().err


def test_a_missing_package_is_named_with_the_command_that_installs_it(bundle, capsys, monkeypatch):
    for package in ("uvicorn", "fastapi"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            for name in [name for name in sys.modules if name.startswith("recbole_perpeft.serving.service.")]:
                without.delitem(sys.modules, name)
            assert main(["serve", bundle]) == 2
        assert f'serve needs the package {package}: pip install "recbole-perpeft[serve]"' in capsys.readouterr().err
