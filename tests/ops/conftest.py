"""Workplaces, and a PostgreSQL, for servers and their stores."""

from tests.steps.conftest import postgresql, shared, store, workplace

__all__ = ["postgresql", "shared", "store", "workplace"]
