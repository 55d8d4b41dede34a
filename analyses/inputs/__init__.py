"""What analyses are given, in common: prompts, pairs of prompts, targets, snapshots of training."""
