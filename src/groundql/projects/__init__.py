"""A project folder from a database: its schema described, questions drafted and run, split, and a config to train with."""

from groundql.projects.make import Made, make_project

__all__ = ["Made", "make_project"]
