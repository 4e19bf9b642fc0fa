"""The workplaces of steps serve here, too."""

from tests.steps.conftest import store, workplace

__all__ = ["store", "workplace"]
