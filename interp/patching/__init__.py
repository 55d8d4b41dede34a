"""Activation patching: sweeps over many places in the time that their arithmetic takes.

```python
heads = sites(model, "z", positions="all")           # which places
metric = LogitDiff(right, wrong)                     # what is measured
sweep(model, corrupted, clean_cache, heads, metric).mean()                 # [layer, head]
```

`path_sweep` does the same for direct paths between heads, MLPs and the logits (edges by name, and
longer paths: `interp.circuits`). The `get_act_patch_…`, their setters and
`generic_activation_patch` are TransformerLens's names for it.
"""

from interp.patching.generic import generic_activation_patch
from interp.patching.grids import Sites, sites
from interp.patching.helpers import (
    get_act_patch_attn_head_all_pos_every,
    get_act_patch_attn_head_by_pos_every,
    get_act_patch_attn_head_k_all_pos,
    get_act_patch_attn_head_k_by_pos,
    get_act_patch_attn_head_out_all_pos,
    get_act_patch_attn_head_out_by_pos,
    get_act_patch_attn_head_pattern_all_pos,
    get_act_patch_attn_head_pattern_by_pos,
    get_act_patch_attn_head_pattern_dest_src_pos,
    get_act_patch_attn_head_q_all_pos,
    get_act_patch_attn_head_q_by_pos,
    get_act_patch_attn_head_v_all_pos,
    get_act_patch_attn_head_v_by_pos,
    get_act_patch_attn_out,
    get_act_patch_block_every,
    get_act_patch_mlp_out,
    get_act_patch_resid_mid,
    get_act_patch_resid_pre,
)
from interp.patching.metrics import KLDivergence, Logit, LogitDiff, LogProb, Loss, Metric
from interp.patching.paths import (
    get_act_patch_direct_path,
    get_act_patch_direct_path_all_sources,
    path_sweep,
)
from interp.patching.setters import (
    layer_head_dest_src_pos_pattern_patch_setter,
    layer_head_pattern_patch_setter,
    layer_head_pos_pattern_patch_setter,
    layer_head_vector_patch_setter,
    layer_pos_head_vector_patch_setter,
    layer_pos_patch_setter,
)
from interp.patching.sweeps import SweepResult, sweep

__all__ = [
    "KLDivergence",
    "LogProb",
    "Logit",
    "LogitDiff",
    "Loss",
    "Metric",
    "Sites",
    "SweepResult",
    "generic_activation_patch",
    "get_act_patch_attn_head_all_pos_every",
    "get_act_patch_attn_head_by_pos_every",
    "get_act_patch_attn_head_k_all_pos",
    "get_act_patch_attn_head_k_by_pos",
    "get_act_patch_attn_head_out_all_pos",
    "get_act_patch_attn_head_out_by_pos",
    "get_act_patch_attn_head_pattern_all_pos",
    "get_act_patch_attn_head_pattern_by_pos",
    "get_act_patch_attn_head_pattern_dest_src_pos",
    "get_act_patch_attn_head_q_all_pos",
    "get_act_patch_attn_head_q_by_pos",
    "get_act_patch_attn_head_v_all_pos",
    "get_act_patch_attn_head_v_by_pos",
    "get_act_patch_attn_out",
    "get_act_patch_block_every",
    "get_act_patch_direct_path",
    "get_act_patch_direct_path_all_sources",
    "get_act_patch_mlp_out",
    "get_act_patch_resid_mid",
    "get_act_patch_resid_pre",
    "layer_head_dest_src_pos_pattern_patch_setter",
    "layer_head_pattern_patch_setter",
    "layer_head_pos_pattern_patch_setter",
    "layer_head_vector_patch_setter",
    "layer_pos_head_vector_patch_setter",
    "layer_pos_patch_setter",
    "path_sweep",
    "sites",
    "sweep",
]
