"""`ablations`: what a prediction loses without each component."""
