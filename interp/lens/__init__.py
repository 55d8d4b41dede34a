"""What a model would predict from the middle of it: the logit lens and the tuned lens.

`logit_lens` reads every residual stream; given a `TunedLens`, which `train_tuned_lens` makes, it
reads with that. `component_lens` says which tokens each component writes towards.
"""

from interp.lens.components import ComponentReading, component_lens
from interp.lens.logit_lens import LensReading, logit_lens, stream_hooks
from interp.lens.read_out import read_out
from interp.lens.training import lens_kl, train_tuned_lens
from interp.lens.tuned_lens import TunedLens

__all__ = [
    "ComponentReading",
    "LensReading",
    "TunedLens",
    "component_lens",
    "lens_kl",
    "logit_lens",
    "read_out",
    "stream_hooks",
    "train_tuned_lens",
]
