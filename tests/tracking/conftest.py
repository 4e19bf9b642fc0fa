"""The workplaces of steps serve here, too."""

from tests.steps.conftest import shared, store, workplace

__all__ = ["shared", "store", "workplace"]
