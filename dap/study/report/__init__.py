"""Layer 7. A page, figures and verdicts that people read."""
