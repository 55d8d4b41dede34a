"""What heads look at: `head-scores`, and attention as maps and tables."""
