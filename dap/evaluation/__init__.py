"""Layer 6. From a checkpoint to a point of KL budget against win rate."""
