"""Which parts of a model a prediction comes from."""

from interp.attribution.direct import (
    Attributed,
    DirectAttribution,
    LogitDirection,
    direct_logit_attribution,
    mlp_bias_attribution,
    neuron_attribution,
    source_attribution,
)

__all__ = [
    "Attributed",
    "DirectAttribution",
    "LogitDirection",
    "direct_logit_attribution",
    "mlp_bias_attribution",
    "neuron_attribution",
    "source_attribution",
]
