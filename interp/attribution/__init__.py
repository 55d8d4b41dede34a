"""Which parts of a model a prediction comes from.

Where to begin, by what is asked:

- which heads and MLPs wrote a logit: `direct_logit_attribution`; `source_attribution` and
  `neuron_attribution` take their shares further apart;
- which tokens it depends on: `input_gradients`, `integrated_gradients`;
- about what patching would show, from one backward pass: `estimate` (`atp_star` with corrections)
  for places, `edge_attribution` for edges;
- where attention leads: `value_weighted_attention`, `attention_rollout`; and along which routes of
  heads and MLPs the streams were made: `trace_routes`.
"""

from interp.attribution.attribution_patching import Estimate, estimate, estimate_several
from interp.attribution.by_source_and_neuron import (
    mlp_bias_attribution,
    neuron_attribution,
    source_attribution,
)
from interp.attribution.comparison import Agreement, agreement, spearman
from interp.attribution.corrections import atp_star
from interp.attribution.direct import Attributed, DirectAttribution, direct_logit_attribution
from interp.attribution.edges import EdgeScores, edge_attribution
from interp.attribution.gradients import GradientRun, run_with_gradients
from interp.attribution.inputs import (
    InputGradients,
    IntegratedGradients,
    completeness_by_steps,
    input_gradients,
    integrated_gradients,
)
from interp.attribution.logit_direction import LogitDirection
from interp.attribution.proximity import (
    StreamImportance,
    neuron_importance,
    proximity_hooks,
    stream_importance,
)
from interp.attribution.rollout import attention_rollout, mixing_matrices, rollout
from interp.attribution.routes import RouteEdge, Routes, trace_routes
from interp.attribution.value_weighted import value_weighted_attention

__all__ = [
    "Agreement",
    "Attributed",
    "DirectAttribution",
    "EdgeScores",
    "Estimate",
    "GradientRun",
    "InputGradients",
    "IntegratedGradients",
    "LogitDirection",
    "RouteEdge",
    "Routes",
    "StreamImportance",
    "agreement",
    "atp_star",
    "attention_rollout",
    "completeness_by_steps",
    "direct_logit_attribution",
    "edge_attribution",
    "estimate",
    "estimate_several",
    "input_gradients",
    "integrated_gradients",
    "mixing_matrices",
    "mlp_bias_attribution",
    "neuron_attribution",
    "neuron_importance",
    "proximity_hooks",
    "rollout",
    "run_with_gradients",
    "source_attribution",
    "spearman",
    "stream_importance",
    "trace_routes",
    "value_weighted_attention",
]
