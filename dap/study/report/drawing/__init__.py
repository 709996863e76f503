"""Layer 7. Figures as pictures; how they look, there and on the page."""
