"""Layer 6. Figures as pictures; how they look, there and on the page."""
