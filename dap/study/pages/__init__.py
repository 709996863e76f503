"""Layer 6. The report as Markdown and as one interactive HTML page."""
