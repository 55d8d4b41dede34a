"""Canned analyses of superposition: toy models of it, and the same measures on real models."""
