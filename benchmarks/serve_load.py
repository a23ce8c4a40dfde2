"""A server under load and under faults, on loopback: speed against concurrency, and that nothing is lost or mixed up.

    python -m benchmarks.serve_load OUT.json [--model MODEL] [--seconds 5]

The scripted model answers each question with the question itself, so that an answer that belongs to another shows. With
--model a real one is asked too; its answers at each concurrency are compared with those to the same questions one at
a time. The client is a bare HTTP one in this process, on the same cores as the server. The fault of a full disk needs
the right to mount a tmpfs.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.served_process import ROOT, Client, Found, echo, server
from tests.serving.served import make_databases
from tests.small_data import TRAIN


@dataclass
class Load:
    """What a load saw. Refused: nothing listened. Lost: sent, and no answer with a status came."""

    n_asked: int = 0
    n_mixed_up: int = 0
    n_lost: int = 0
    n_refused: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wall_s: float = 0.0

    def quantile_ms(self, share: float) -> float | None:
        times = sorted(self.seconds)
        return round(times[min(len(times) - 1, int(share * len(times)))] * 1000, 1) if times else None

    def json(self) -> Found:
        return {
            "asked": self.n_asked,
            "statuses": dict(sorted(self.statuses.items())),
            "refused": self.n_refused,
            "lost": self.n_lost,
            "mixed_up": self.n_mixed_up,
            "answers_per_s": round(len(self.seconds) / self.wall_s, 1) if self.wall_s else None,
            "p50_ms": self.quantile_ms(0.5),
            "p99_ms": self.quantile_ms(0.99),
            "wall_s": round(self.wall_s, 2),
        }


async def load(
    port: int, n_clients: int, seconds: float, *, think: Callable[[int], Awaitable[None]] | None = None
) -> Load:
    """So many clients ask the echo server, each one question after the other, for so long."""
    seen = Load()
    start_s = time.monotonic()

    async def one(name: int) -> None:
        client, n = Client(port), 0
        while time.monotonic() - start_s < seconds:
            mark = f"client {name}, question {n}"
            n += 1
            seen.n_asked += 1
            asked_s = time.monotonic()
            try:
                status, body = await client.ask("/ask", {"database": "shop", "question": mark})
            except ConnectionRefusedError:
                seen.n_refused += 1
                await asyncio.sleep(0.02)
                continue
            except (OSError, EOFError, TimeoutError):
                seen.n_lost += 1
                continue
            told = json.loads(body)
            outcome = told.get("outcome") or {}
            seen.statuses[f"{status} {told.get('status') or told['error']['code']}"] += 1
            if status == 200:
                seen.seconds.append(time.monotonic() - asked_s)
                seen.n_mixed_up += told["question"] != mark or any(
                    row[0] != mark for row in outcome.get("rows", [])
                )
            else:
                await asyncio.sleep(0.01)
            if think:
                await think(name)
        client.close()

    await asyncio.gather(*(one(name) for name in range(n_clients)))
    seen.wall_s = time.monotonic() - start_s
    return seen


async def counts(port: int) -> Found:
    """What the server counts of itself."""
    client = Client(port)
    _, body = await client.ask("/metrics", None)
    client.close()
    lines = [line.rpartition(" ") for line in body.decode().splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


# ---- speed ----


async def scripted_speed(path: Path, seconds: float) -> list[Found]:
    found = []
    for delay_s in (0.0, 0.05):
        async with server(echo(path, delay_s=delay_s), stderr=subprocess.DEVNULL) as (_, port):
            await load(port, 2, 0.5)  # starts the processes that run queries
            for n_clients in (1, 4, 16, 64, 256):
                seen = await load(port, n_clients, seconds)
                found.append({"writing_s": delay_s, "clients": n_clients, **seen.json()})
                print(json.dumps(found[-1]), flush=True)
    return found


async def overload(path: Path, seconds: float) -> Found:
    """Default limits, and four times the clients that they admit."""
    async with server(echo(path, delay_s=0.05, limits=""), stderr=subprocess.DEVNULL) as (_, port):
        seen = await load(port, 128, seconds)
        return seen.json() | {"open_at_the_end": (await counts(port))["groundql_queue"]}


async def ask_in_turn(port: int, waiting: list[str], seen: Load, alone: dict[str, str]) -> int:
    """One client takes questions until there are none; how many of its answers are as those to a question alone."""
    client, n_same = Client(port), 0
    while waiting:
        question = waiting.pop()
        seen.n_asked += 1
        asked_s = time.monotonic()
        try:
            status, body = await client.ask("/ask", {"database": "shop", "question": question})
        except (OSError, EOFError, TimeoutError):
            seen.n_lost += 1
            continue
        told = json.loads(body)
        seen.statuses[f"{status} {told.get('status')}"] += 1
        seen.seconds.append(time.monotonic() - asked_s)
        seen.n_mixed_up += told.get("question") != question
        alone.setdefault(question, str(told.get("sql")))
        n_same += alone[question] == str(told.get("sql"))
    client.close()
    return n_same


async def model_speed(path: Path, model: str) -> list[Found]:
    """The same questions at each concurrency; `same` counts answers whose SQL equals that of one at a time."""
    main = "import sys; sys.stderr = sys.stdout; from groundql.cli import main; main()"
    command = ["-c", main, "serve", str(path), "--model", model, "--port", "0", "--max-new-tokens", "64"]
    found: list[Found] = []
    alone: dict[str, str] = {}
    async with server(command, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as (_, port):
        for n_clients in (1, 2, 4, 8, 16):
            waiting, seen = [text for text, _ in TRAIN] * max(1, n_clients // 8), Load()
            start_s = time.monotonic()
            same = await asyncio.gather(*(ask_in_turn(port, waiting, seen, alone) for _ in range(n_clients)))
            seen.wall_s = time.monotonic() - start_s
            found.append({"clients": n_clients, **seen.json(), "same": sum(same)})
            print(json.dumps(found[-1]), flush=True)
    return found


# ---- faults ----


async def killed(path: Path) -> Found:
    """kill -9 under load; the same port again. What was asked of the dead server is lost to it, and says so at once."""
    async with server(echo(path, delay_s=0.02), stderr=subprocess.DEVNULL) as (process, port):
        loading = asyncio.create_task(load(port, 16, 12.0))
        await asyncio.sleep(2)
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        killed_s = time.monotonic()
        process.kill()
        await process.wait()
        await asyncio.sleep(0.5)
        left = [pid for pid in children if is_running(int(pid))]
        async with server(echo(path, port=port, delay_s=0.02), stderr=subprocess.DEVNULL):
            back_s = time.monotonic() - killed_s
            seen = await loading
            return seen.json() | {
                "processes_before": len(children),
                "processes_left_after_500_ms": len(left),
                "back_after_s": round(back_s, 2),
            }


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def hung_up(path: Path, seconds: float) -> Found:
    """Half of the clients send a question and hang up, again and again; the others must not notice."""
    async with server(echo(path, delay_s=0.05), stderr=subprocess.DEVNULL) as (_, port):
        n_left, ends_s = 0, time.monotonic() + seconds

        async def rude() -> None:
            nonlocal n_left
            while time.monotonic() < ends_s:
                client = Client(port)
                await client.send("/ask", {"database": "shop", "question": "nobody waits for this"})
                await asyncio.sleep(0.01)
                client.close()
                n_left += 1

        seen, *_ = await asyncio.gather(load(port, 8, seconds), *(rude() for _ in range(8)))
        await asyncio.sleep(0.5)
        told = await counts(port)
        return seen.json() | {
            "hung_up": n_left,
            "noticed": told.get('groundql_given_up_total{why="gone"}', 0),
            "open_at_the_end": told["groundql_queue"],
        }


async def database_faults(folder: Path, seconds: float) -> Found:
    """The file locked, then gone, then replaced by another, each under load; and right again."""
    path = make_databases(folder)["shop"]
    found: Found = {}
    async with server(echo(path, delay_s=0.005), stderr=subprocess.DEVNULL) as (_, port):
        found["before"] = (await load(port, 8, seconds)).json()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            found["locked"] = (await load(port, 8, seconds)).json()
            other.execute("ROLLBACK")
        away = path.rename(path.with_suffix(".away"))
        found["deleted"] = (await load(port, 8, seconds)).json()
        away.rename(path)
        found["back"] = (await load(port, 8, seconds)).json()
        loading = asyncio.create_task(load(port, 8, seconds))
        (folder / "new").mkdir()
        for i in range(10):  # files with 3 to 12 tables take its place, one after the other
            await asyncio.sleep(seconds / 12)
            tables = ";".join(f"CREATE TABLE t{k} (a)" for k in range(3 + i))
            make_databases(folder / "new", shop=tables)["shop"].replace(path)
        found["replaced_10_times"] = (await loading).json()
        client = Client(port)
        _, body = await client.ask("/ask", {"database": "shop", "question": "last"})
        found["replaced_10_times"]["tables_seen_at_the_end"] = json.loads(body)["outcome"]["rows"][0][1]
        client.close()
    return found


async def full_disk(seconds: float) -> Found:
    """Database, log, home and temporary files on a disk of 2 MB without a free byte."""
    with tempfile.TemporaryDirectory() as name:
        disk = Path(name)
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", name], capture_output=True, check=False
        ).returncode:
            return {"skipped": "a tmpfs cannot be mounted here"}
        try:
            path = make_databases(disk)["shop"]
            env = os.environ | {"TMPDIR": name, "HOME": name, "PYTHONPATH": f"{ROOT}/src:{ROOT}"}
            with (disk / "log").open("w", encoding="utf-8") as log:
                async with server(echo(path), stderr=log, cwd=disk, env=env) as (process, port):
                    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
                        while True:
                            filler.write(bytes(4096))
                    before = (disk / "log").stat().st_size
                    seen = await load(port, 16, seconds)
                    free = os.statvfs(disk)
                    process.send_signal(signal.SIGTERM)
                    status = await process.wait()
                    grown = (disk / "log").stat().st_size - before
            return seen.json() | {
                "free_bytes": free.f_bavail * free.f_frsize,
                "log_grew_bytes": grown,
                "exit_status": status,
            }
        finally:
            subprocess.run(["umount", name], check=False)


async def everything(arguments: argparse.Namespace) -> Found:
    found: Found = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
    }
    seconds = arguments.seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = make_databases(folder)["shop"]
        if arguments.model:
            found["model"] = Path(arguments.model).name
            found["model_speed"] = await model_speed(path, arguments.model)
        if seconds:
            found["scripted_speed"] = await scripted_speed(path, seconds)
            found["overload"] = await overload(path, seconds)
            found["killed"] = await killed(path)
            found["hung_up"] = await hung_up(path, seconds)
            (folder / "faults").mkdir()
            found["database"] = await database_faults(folder / "faults", min(seconds, 3.0))
            found["full_disk"] = await full_disk(min(seconds, 3.0))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--seconds", type=float, default=5.0, help="each load; 0: the model alone")
    arguments = parser.parse_args()
    found = asyncio.run(everything(arguments))
    known = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    arguments.out.write_text(json.dumps(known | found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in found.items() if not key.endswith("speed")}, indent=1))


if __name__ == "__main__":
    main()
