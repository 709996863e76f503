"""Layer 6. The controlled study: stages, points, plots and the report."""
