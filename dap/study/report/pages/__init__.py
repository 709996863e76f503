"""Layer 7. The report as Markdown and as one interactive HTML page."""
