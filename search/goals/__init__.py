"""What is good: objectives, constraints, dominance. Imports nothing else of ``search`` but units."""
