"""Layer 7. The controlled study: stages, points, plots and the report."""
