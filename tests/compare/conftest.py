"""Workplaces for what reads evaluated runs."""

from tests.steps.conftest import store, workplace

__all__ = ["store", "workplace"]
