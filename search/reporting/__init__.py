"""Everything that a search shows to people: progress, tables, pictures, MLflow."""
