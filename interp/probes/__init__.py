"""Probes: what can be read from activations, at many sites at once, and how well.

`features_of` records what `sites_of` names, `absolute_position` and its like make `Targets`,
`split_by_group` keeps sequences whole. `fit_ridge` (numbers) and `fit_logistic` (classes) fit a
probe at every site; `fit_mlp`, `fit_sparse` and `fit_low_rank` are others, and the two
`…_streamed` read a harvested dataset. `controls` has what a probe must beat.
"""

from interp.probes.controls import (
    Chance,
    TokenBaseline,
    chance_accuracy,
    control_task,
    random_twin,
    relabelled,
    shuffled,
    token_baseline,
)
from interp.probes.curves import Curve
from interp.probes.fit import LinearProbe, MLPProbe, Probe, ProbeFit, probe_from_dict
from interp.probes.logistic import ConvergenceError, fit_logistic
from interp.probes.low_rank import fit_low_rank
from interp.probes.mlp import MLPTraining, fit_mlp
from interp.probes.ridge import fit_ridge, fit_ridges
from interp.probes.scores import Bootstrap, Estimate, class_scores, regression_scores
from interp.probes.selection import DEFAULT_ALPHAS, DEFAULT_CS, log_grid
from interp.probes.sites import Features, Site, features_of, sites_of
from interp.probes.sparse import fit_sparse
from interp.probes.splits import Split, split_by_group
from interp.probes.streamed_logistic import fit_logistic_streamed
from interp.probes.streamed_ridge import fit_ridge_streamed
from interp.probes.targets import (
    Targets,
    absolute_position,
    default_markers,
    fixed_places,
    ordinary_tokens,
    relative_offset,
    token_order,
)

__all__ = [
    "DEFAULT_ALPHAS",
    "DEFAULT_CS",
    "Bootstrap",
    "Chance",
    "ConvergenceError",
    "Curve",
    "Estimate",
    "Features",
    "LinearProbe",
    "MLPProbe",
    "MLPTraining",
    "Probe",
    "ProbeFit",
    "Site",
    "Split",
    "Targets",
    "TokenBaseline",
    "absolute_position",
    "chance_accuracy",
    "class_scores",
    "control_task",
    "default_markers",
    "features_of",
    "fit_logistic",
    "fit_logistic_streamed",
    "fit_low_rank",
    "fit_mlp",
    "fit_ridge",
    "fit_ridge_streamed",
    "fit_ridges",
    "fit_sparse",
    "fixed_places",
    "log_grid",
    "ordinary_tokens",
    "probe_from_dict",
    "random_twin",
    "regression_scores",
    "relabelled",
    "relative_offset",
    "shuffled",
    "sites_of",
    "split_by_group",
    "token_baseline",
    "token_order",
]
