"""Bridges to other interpretability libraries, none of them imported unasked.

There is one: `interp.compat.transformer_lens`.
"""
