"""Every verb, imported once so that it registers itself with the app."""
