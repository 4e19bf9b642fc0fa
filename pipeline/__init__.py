"""ncf-pipeline: recommender experiments as MLflow runs that can be trusted.

The method as functions, for scripts and notebooks: ``pipeline.api``.
"""
