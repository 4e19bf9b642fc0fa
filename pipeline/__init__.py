"""ncf-pipeline: recommender experiments as MLflow runs that can be trusted."""
