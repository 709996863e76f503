"""Layer 5. The one loop and the compiled programs that it calls."""
