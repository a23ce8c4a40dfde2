"""Base models: the catalog, loading, and the memory plan."""

import logging

# bitsandbytes looks on the hub for an optional CPU kernel when it is imported, and logs an error without a network.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.CRITICAL)
