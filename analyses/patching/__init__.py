"""What changes when activations are exchanged, or otherwise edited.

`activation-patching` and `path-patching` patch; `attribution-patching` estimates both.
`place_effects` and `intervention_effects` are for a single prompt and edits of any kind.
"""
