"""Layer 3. Preference data: sources, vocabularies, arrays and batches."""
