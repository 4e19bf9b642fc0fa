"""ncf-pipeline: recommender experiments as MLflow runs that can be trusted.

The method as functions, for scripts and notebooks: ``pipeline.api``.
"""

__version__ = "0.1.0"
