"""Requests a second of ``serve``, how long they take, and what its start costs against loading the checkpoint.

    python benchmarks/service.py --json service.json

Trains the demo for a few epochs on frozen features and exports a bundle. Then, each in a process of its own and in
turns: the seconds and the memory of opening the checkpoint with its data set and making a list, and of the service from
the start of the process to its first answer. Then requests for lists of ten items for random users over a few
connections, each of which asks again when it has its answer, by loopback. The client runs on the same cores.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

ROOT = Path(__file__).resolve().parent.parent
SEED = 2026
PATIENCE = 120  # seconds that a service may take to answer for the first time
LOAD = """
import sys
from recbole_perpeft.utils.late_imports import without_garbage_collection
with without_garbage_collection():
    from recbole_perpeft.serving.recommender import Recommender
recommender = Recommender.load(sys.argv[1], {"data_path": sys.argv[2], "use_gpu": False})
recommender.recommend(recommender.users[:1], columns=["title"], group=True)
print(open("/proc/self/status").read())
"""
# of a process: all that it had in memory at most, and what is its own after a list, without pages of files, which other
# processes share
_MEMORY = {"bytes": "VmHWM:", "own_bytes": "RssAnon:"}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="for each number of connections")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--starts", type=int, default=3, help="how often each start is measured")
    parser.add_argument("--checkpoint", type=Path, help="of the demo; else one is trained")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args(arguments)


def train(folder: Path) -> Path:
    """A checkpoint of the demo."""
    settings = ["--dataset=demo", f"--data_path={ROOT / 'dataset'}", "--peft_type=NONE", "--epochs=6"]
    settings += ["--global_epochs=2", "--show_progress=False", "--use_gpu=False", "--checkpoint_dir=saved"]
    command = [sys.executable, str(ROOT / "run_recbole_perpeft.py"), "--model=PerPEFTSASRec", *settings]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (file,) = (folder / "saved").glob("*.pth")
    return file


def python(*words: str, folder: Path) -> subprocess.Popen:
    """A process of this package in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def load(checkpoint: Path, folder: Path) -> dict:
    """Wall and processor seconds and memory of opening the checkpoint, up to a list."""
    start = time.perf_counter()
    process = python("-c", LOAD, str(checkpoint), str(ROOT / "dataset"), folder=folder)
    status = process.stdout.read()
    _, _, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "processor": usage.ru_utime + usage.ru_stime, **_memory(status)}


def _memory(status: str) -> dict[str, int]:
    return {name: int(status.split(line)[1].split()[0]) * 1024 for name, line in _MEMORY.items()}


@contextmanager
def service(bundle: Path, folder: Path):
    """A service on a free port; gives its process and its port."""
    words = ("-m", "recbole_perpeft", "serve", str(bundle), "--port", "0", f"--data_path={ROOT / 'dataset'}")
    process = python(*words, "--use_gpu=False", folder=folder)
    try:
        line = process.stdout.readline()
        yield process, int(line.split("http://127.0.0.1:")[1].split("/")[0])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)


def start(bundle: Path, folder: Path) -> dict:
    """As :func:`load`, of the service up to its first list."""
    began = time.perf_counter()
    with service(bundle, folder) as (process, port):
        users = _get(port, "/users")["users"]
        body = json.dumps({"user": users[0]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/recommend", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            answer.read()
        seconds = time.perf_counter() - began
        ticks = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        memory = _memory(Path(f"/proc/{process.pid}/status").read_text())
    return {"seconds": seconds, "processor": sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), **memory}


def _get(port: int, path: str) -> dict:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        return json.load(answer)


async def ask(port: int, users: list[str], requests: int, connections: int) -> list[float]:
    """The seconds of each of some requests."""
    left, seconds = iter(range(requests)), []
    chance = random.Random(SEED)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            body = json.dumps({"user": chance.choice(users), "k": 10}).encode()
            head = (
                f"POST /recommend HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            began = time.perf_counter()
            writer.write(head.encode() + body)
            headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(headers.split("content-length: ")[1].split("\r\n")[0]))
            seconds.append(time.perf_counter() - began)
            if " 200 " not in headers.split("\r\n")[0]:
                raise RuntimeError(headers)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return seconds


def rates(bundle: Path, folder: Path, values: argparse.Namespace) -> list[dict]:
    """Requests a second and their seconds, for each number of connections."""
    found = []
    with service(bundle, folder) as (process, port):
        users = [user for start in range(10) for user in _get(port, f"/users?start=u0{start}")["users"]]
        asyncio.run(ask(port, users, 200, 4))  # warm
        for connections in values.connections:
            began, spent = time.perf_counter(), _processor(process.pid)
            seconds = sorted(asyncio.run(ask(port, users, values.requests, connections)))
            passed = time.perf_counter() - began
            found.append(
                {
                    "connections": connections,
                    "requests_per_second": values.requests / passed,
                    "median": statistics.median(seconds),
                    "p99": seconds[int(0.99 * len(seconds))],
                    "processor_per_request": (_processor(process.pid) - spent) / values.requests,
                }
            )
    return found


def _processor(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def measure(values: argparse.Namespace, folder: Path) -> dict:
    """All figures."""
    from benchmarks.machine import describe  # late: torch is not imported while others start

    checkpoint = values.checkpoint.resolve() if values.checkpoint else train(folder)
    words = ("-m", "recbole_perpeft", "export", str(checkpoint), "--out", "bundle", f"--data_path={ROOT / 'dataset'}")
    python(*words, folder=folder).communicate()
    loads, starts = [], []
    for _ in range(values.starts + 1):  # the first reads files that are not in memory, and is left out
        loads.append(load(checkpoint, folder))
        starts.append(start(folder / "bundle", folder))
    result = {"rates": rates(folder / "bundle", folder, values), "checkpoint": loads[1:], "service": starts[1:]}
    for name in ("seconds", "processor", *_MEMORY):
        ours, theirs = ([part[name] for part in result[key]] for key in ("service", "checkpoint"))
        result[f"{name}_ratio"] = statistics.median(ours) / statistics.median(theirs)
    import torch

    return result | {"requests": values.requests, "machine": describe(torch.device("cpu"))}


def report(result: dict) -> str:
    """The figures as a table."""
    lines = [
        "| connections | requests a second | median, ms | p99, ms | processor, ms a request |",
        "| --- | --- | --- | --- | --- |",
    ]
    for rate in result["rates"]:
        figures = [
            rate["requests_per_second"],
            *(1000 * rate[key] for key in ("median", "p99", "processor_per_request")),
        ]
        lines.append(
            f"| {rate['connections']} | {figures[0]:.0f} | " + " | ".join(f"{f:.1f}" for f in figures[1:]) + " |"
        )
    lines += ["", "| start | seconds | processor seconds | peak memory, MiB | memory of its own, MiB |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for key, words in (
        ("checkpoint", "checkpoint with its data set, a list"),
        ("service", "service of its bundle, an answer"),
    ):
        middle = {
            name: statistics.median(part[name] for part in result[key]) for name in ("seconds", "processor", *_MEMORY)
        }
        memory = " | ".join(f"{middle[name] / 2**20:.0f}" for name in _MEMORY)
        lines.append(f"| {words} | {middle['seconds']:.1f} | {middle['processor']:.1f} | {memory} |")
    ratios = [f"{result[f'{name}_ratio']:.2f}" for name in ("seconds", "processor", *_MEMORY)]
    lines.append(f"| ratio | {' | '.join(ratios)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    values = parse(arguments)
    json_file = values.json and values.json.resolve()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(values, Path(folder))
    print(report(result))
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
