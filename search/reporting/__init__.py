"""What people get to see: progress, tables, pictures, MLflow."""
