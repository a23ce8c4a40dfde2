"""An MCP server whose model is scripted: python -m tests.serving.scripted_mcp QUERIES.json DATABASE..."""

import json
import sys
from pathlib import Path

from groundql.answer import OpenDatabase
from groundql.serving.mcp import ReplyLimits, build_server, named
from tests.scripted_assistant import ScriptedAssistant

if __name__ == "__main__":
    queries = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    databases = named([OpenDatabase(place) for place in sys.argv[2:]])
    limits = ReplyLimits(deadline_s=2.0, max_rows=3)
    build_server(databases, lambda: ScriptedAssistant(queries), limits).run("stdio")
    for database in databases.values():
        database.close()
