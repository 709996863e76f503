"""Layer 7. What a study will cost, before it runs."""
