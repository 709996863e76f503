"""Layer 4. Algorithms as tuples of small functions, called by one loop."""
