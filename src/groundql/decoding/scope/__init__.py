"""Scope: which names of a half-written query can still bind to the schema."""

from groundql.decoding.scope.tracker import ScopeState, ScopeTracker

__all__ = ["ScopeState", "ScopeTracker"]
