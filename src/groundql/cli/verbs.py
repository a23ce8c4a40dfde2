"""Every verb, imported once so that it registers itself with the app."""

import groundql.cli.sample  # noqa: F401
