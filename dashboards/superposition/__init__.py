"""The parts of the Superposition page: one file for each of its sections, and what they share."""
