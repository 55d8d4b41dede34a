"""Bridges to other interpretability libraries: one module each, none of them imported unasked."""
