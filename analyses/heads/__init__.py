"""What heads look at: `head-scores`, and attention as maps and tables.

`head-scores` is in `scores`; `attention_maps` and `pattern_tables` are for one prompt.
"""
