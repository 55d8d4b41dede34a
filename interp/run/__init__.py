"""One run of a model: what it is given, planned from what is wanted, carried out and recorded.

In that order: `arguments` and `inputs`, `plan`, `running` (which has `forward`), `recording`.
"""
