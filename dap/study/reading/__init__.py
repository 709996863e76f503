"""Layer 7. What a study found: points, frontiers, evidence."""
