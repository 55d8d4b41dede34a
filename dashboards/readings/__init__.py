"""What a model says about its input: one file for each kind of numbers, computed once and kept."""
