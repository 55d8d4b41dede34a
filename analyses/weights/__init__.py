"""`weight-circuits`: what weights say by themselves."""
