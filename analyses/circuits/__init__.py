"""`circuit-search`: which edges are enough for a behaviour."""
