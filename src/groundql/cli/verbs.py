"""Every verb, imported once so that it registers itself with the app."""

import groundql.cli.ask  # noqa: F401  here and below: imported to register
import groundql.cli.compare  # noqa: F401
import groundql.cli.demo  # noqa: F401
import groundql.cli.explore  # noqa: F401
import groundql.cli.export  # noqa: F401
import groundql.cli.generate  # noqa: F401
import groundql.cli.init  # noqa: F401
import groundql.cli.judge  # noqa: F401
import groundql.cli.mcp  # noqa: F401
import groundql.cli.plan  # noqa: F401
import groundql.cli.report  # noqa: F401
import groundql.cli.sample  # noqa: F401
import groundql.cli.serve  # noqa: F401
import groundql.cli.train  # noqa: F401
