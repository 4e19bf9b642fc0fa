"""The workplaces of steps serve here, too."""

from tests.steps.conftest import server, shared, store, workplace

__all__ = ["server", "shared", "store", "workplace"]
