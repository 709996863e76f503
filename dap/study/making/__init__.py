"""Layer 7. From values to stages, and from stages to the files of a study."""
