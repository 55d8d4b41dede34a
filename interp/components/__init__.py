"""The parts of a Transformer, one concept a file; `block` puts them together.

Axes: `batch`, `pos` (destination), `key_pos` (source), `head`, `kv_head`, `d_model`, `d_head`,
`d_mlp`, `d_vocab`.
"""
