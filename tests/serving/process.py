"""A server process with a model that answers each question with itself: to be killed, stopped and filled up.

    python -m tests.serving.process PORT DELAY_S NAME=VALUE,... DATABASE...

Writes `ready` and its port on stdout when it listens. The query of the question `x` is SELECT 'x' AS mark, with a count that needs the database.
"""

import sys
from pathlib import Path

from groundql.answer import OpenDatabase
from groundql.serving.app import make_app
from groundql.serving.desk import Desk
from groundql.serving.limits import read_limits
from groundql.serving.metrics import Metrics
from groundql.serving.server import listening_socket, serve, set_up_logs
from tests.scripted_assistant import ScriptedAssistant


class Echo(dict[str, "str | None"]):
    """A query for every question, with the question in it."""

    def get(self, question: str, default: object = None) -> str:  # type: ignore[override]
        quoted = question.replace("'", "''")
        return f"SELECT '{quoted}' AS mark, (SELECT COUNT(*) FROM sqlite_master) AS n_tables"


def main() -> None:
    port, delay_s, limits, *places = sys.argv[1:]
    set_up_logs()
    opened = {Path(place).stem: OpenDatabase(place) for place in places}
    desk = Desk(
        ScriptedAssistant(Echo(), delay_s=float(delay_s)),
        opened,
        model="echo",
        limits=read_limits([text for text in limits.split(",") if text]),
        metrics=Metrics(),
    )
    bound = listening_socket("127.0.0.1", int(port))
    ready = f"ready {bound.getsockname()[1]}"
    serve(make_app(desk), desk, bound, say=lambda text: print(text, flush=True), ready=ready)
    for one in opened.values():
        one.close()


if __name__ == "__main__":
    main()
