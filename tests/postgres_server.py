"""A PostgreSQL of Debian's package in a temporary folder, on loopback, for the tests of that engine."""

import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs" / "engines.md"


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """The URL of the superuser; the test is skipped where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    user = None
    if os.geteuid() == 0:  # initdb refuses root
        account = next((entry for entry in pwd.getpwall() if entry.pw_name == "postgres"), None)
        if account is None:
            pytest.skip("run as root without a user postgres: PostgreSQL refuses to start")
        user = "postgres"
        os.chown(folder, account.pw_uid, account.pw_gid)
        for parent in folder.parents[
            :3
        ]:  # pytest's own folders: one more where tests run in several processes
            if parent.name.startswith(("pytest-", "popen-")):
                parent.chmod(parent.stat().st_mode | 0o011)
    with (
        socket.socket() as free
    ):  # not by the process's number: a second server of it may find that port still taken
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    bin_dir = found[-1].parent
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c shared_buffers=16MB"
    initdb = [bin_dir / "initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL, timeout=60)
    pg_ctl = [bin_dir / "pg_ctl", "-D", "data", "-w", "-l", "log"]
    subprocess.run([*pg_ctl, "-o", settings, "start"], cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL, timeout=60)  # fmt: skip
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*pg_ctl, "-m", "immediate", "stop"], cwd=folder, user=user, check=False, stdout=subprocess.DEVNULL, timeout=60)  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def prepared_postgres(folder: Path, sql: str) -> Iterator[str]:
    """`postgres_server` where `sql` has been run and the role `reader` made; skipped where psycopg is missing too."""
    psycopg = pytest.importorskip(
        "psycopg", reason="psycopg is not installed: pip install 'groundql[postgres]'"
    )
    with postgres_server(folder) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql)
            make_reader(connection)
        yield url


def make_reader(connection: Any) -> None:
    """The role `reader` of docs/engines.md, in the database `postgres`."""
    role = re.search(r"```sql\n(CREATE ROLE.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert role is not None
    connection.execute(role[1].replace("shop", "postgres"))


def as_reader(url: str) -> str:
    """The URL of the role that `make_reader` makes."""
    return url.replace("postgres@", "reader@")
