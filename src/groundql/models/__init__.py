"""Base models: the catalog, loading, and the memory plan."""
