"""Workplaces for what a process has left."""

from tests.steps.conftest import store, workplace

__all__ = ["store", "workplace"]
