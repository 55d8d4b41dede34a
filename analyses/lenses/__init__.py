"""`logit-lens`: what would be predicted if each layer were the last."""
