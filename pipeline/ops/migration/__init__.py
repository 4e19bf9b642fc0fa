"""Everything of one tracking store copied to another, each with MLflow's own client."""
