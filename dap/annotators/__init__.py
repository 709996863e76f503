"""Layer 3. Who prefers what: models, judges, and the labels made of them."""
