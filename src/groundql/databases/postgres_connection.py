"""Opens a PostgreSQL connection with settings of ours, and says what its role may do beyond reading."""

from typing import Any, cast
from urllib.parse import urlsplit

from groundql.errors import DatabaseMissing, DataError, DependencyMissing

CONNECT_S = 10
LEAST_VERSION = 140_000
WATCH = "client_connection_check_interval"  # of PostgreSQL 14; a server that is not on Linux may not take it
SETTINGS = {
    "default_transaction_read_only": "on",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "60s",
    WATCH: "1s",  # a query whose client was killed ends
    "work_mem": "64MB",  # for each sort or hash table
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
}
MORE_THAN_READING = (
    *("pg_read_server_files", "pg_write_server_files", "pg_execute_server_program", "pg_write_all_data"),
    *("pg_signal_backend", "pg_signal_autovacuum_worker", "pg_checkpoint", "pg_maintain"),
    *("pg_create_subscription", "pg_database_owner", "pg_use_reserved_connections"),
)


def role_fault(cursor: Any) -> str:
    """What the connected role may do beyond reading tables, in a few words; "" where nothing is found."""
    (name, *powers) = cursor.execute(
        "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls "
        "FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    named = ("is a superuser", "may make roles", "may make databases", "may replicate", "passes row security")
    for has_power, words in zip(powers, named, strict=True):
        if has_power:
            return f"the role {name} {words}"
    member = cursor.execute(
        "SELECT rolname FROM pg_roles WHERE (rolname = ANY(%s) OR rolsuper) AND pg_has_role(current_user, oid, 'MEMBER') "
        "LIMIT 1",
        (list(MORE_THAN_READING),),
    ).fetchone()
    if member:
        return f"the role {name} is a member of {member[0]}"
    writable = cursor.execute(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') "
        "AND n.nspname NOT LIKE 'pg\\_%%' AND "
        "(has_any_column_privilege(c.oid, 'INSERT, UPDATE') OR has_table_privilege(c.oid, 'DELETE, TRUNCATE')) LIMIT 1",
        (),
    ).fetchone()
    return f"the role {name} may change {writable[0]}" if writable else ""


def connect(url: str) -> Any:
    """A psycopg connection with every setting of ours as its default; DatabaseMissing where nothing answers."""
    psycopg = module()
    try:
        try:
            connection = psycopg.connect(_with_settings(url, SETTINGS), autocommit=True)
        except psycopg.OperationalError as error:
            if WATCH not in str(error):
                raise
            others = {name: value for name, value in SETTINGS.items() if name != WATCH}
            connection = psycopg.connect(_with_settings(url, others), autocommit=True)
    except psycopg.Error as error:
        words = " ".join(str(error).split()).replace(urlsplit(url).password or "\0", "***")
        raise DatabaseMissing(f"{shown(url)} cannot be opened: {words}") from None
    if connection.info.server_version < LEAST_VERSION:
        connection.close()
        raise DataError(f"{shown(url)} is older than PostgreSQL {LEAST_VERSION // 10_000}")
    return connection


def _with_settings(url: str, settings: dict[str, str]) -> str:
    """The connection string with `settings` after those that the URL itself gives."""
    conninfo = module().conninfo
    own = " ".join(f"-c {name}={value}" for name, value in settings.items())
    options = f"{conninfo.conninfo_to_dict(url).get('options', '')} {own}".strip()
    fixed = {"client_encoding": "UTF8", "connect_timeout": CONNECT_S, "application_name": "groundql"}
    return str(conninfo.make_conninfo(url, options=options, **fixed))


def shown(url: str) -> str:
    """The URL without password and settings, for people."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{user}{host}{parts.path}"


def module() -> Any:
    """psycopg; DependencyMissing where it is not installed."""
    try:
        import psycopg
    except ImportError:
        raise DependencyMissing(
            "a postgresql: database needs psycopg: pip install 'groundql[postgres]'"
        ) from None
    return cast(Any, psycopg)
