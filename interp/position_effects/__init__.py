"""What position does inside a model: rows to see it on, its means and geometry, its effects.

Begin with `position_rows` and `position_means`: what a hook holds at each position on average.

- The curve that positions make (`PositionMeans.curve`): `positional_power`, `position_pca`,
  `position_spectrum`, `fit_shift`.
- Attention: `score_parts` (content against position), `attention_distances`, `mean_patterns`,
  `rotary_bands`, `bias_curves`.
- What depends on it: `intervention_effects`, `length_generalisation`.

The encodings themselves are `interp.positions`; `analyses.positions` makes reports of all this.
"""

from interp.position_effects.bias_curves import (
    BiasCurves,
    RecoveredBias,
    bias_curves,
    recovered_bias,
)
from interp.position_effects.curve import (
    Curve,
    Power,
    positional_power,
)
from interp.position_effects.effects import (
    Effect,
    HeadEffects,
    HeadLooks,
    intervention_effects,
)
from interp.position_effects.geometry import (
    PositionPCA,
    Similarity,
    position_pca,
    position_similarity,
)
from interp.position_effects.identities import (
    Identity,
    fitted_slopes,
    model_identities,
    scores_on_one_token,
    shift_rotation,
    sinusoidal_product,
)
from interp.position_effects.length import (
    LengthScores,
    PositionScores,
    by_position,
    length_generalisation,
    rotary_variant,
    with_rotary,
)
from interp.position_effects.mean_patterns import MeanPatterns, mean_patterns
from interp.position_effects.means import PositionMeans, position_means
from interp.position_effects.offsets import (
    AttentionDistances,
    ExplainedPatterns,
    attention_distances,
    explained_by_position,
    offset_curves,
)
from interp.position_effects.rotary_bands import (
    RotaryBands,
    band_dimensions,
    band_frequencies,
    rotary_bands,
)
from interp.position_effects.rows import Rows, position_rows
from interp.position_effects.score_parts import ScoreParts, score_parts
from interp.position_effects.score_statistics import ScorePartStatistics, score_part_statistics
from interp.position_effects.shift import (
    ShiftMap,
    fit_shift,
    given_shift_r2,
)
from interp.position_effects.spectrum import (
    Circle,
    Helix,
    Spectrum,
    component_circles,
    find_periods,
    fit_helix,
    periodogram,
    position_spectrum,
)
from interp.position_effects.subspace_removal import (
    Spread,
    position_waves,
    random_subspace,
    rank_of_equal_share,
    spreads,
)
from interp.position_effects.subspaces import (
    overlap,
    principal_angles,
    random_overlap,
)

__all__ = [
    "AttentionDistances",
    "BiasCurves",
    "Circle",
    "Curve",
    "Effect",
    "ExplainedPatterns",
    "HeadEffects",
    "HeadLooks",
    "Helix",
    "Identity",
    "LengthScores",
    "MeanPatterns",
    "PositionMeans",
    "PositionPCA",
    "PositionScores",
    "Power",
    "RecoveredBias",
    "RotaryBands",
    "Rows",
    "ScorePartStatistics",
    "ScoreParts",
    "ShiftMap",
    "Similarity",
    "Spectrum",
    "Spread",
    "attention_distances",
    "band_dimensions",
    "band_frequencies",
    "bias_curves",
    "by_position",
    "component_circles",
    "explained_by_position",
    "find_periods",
    "fit_helix",
    "fit_shift",
    "fitted_slopes",
    "given_shift_r2",
    "intervention_effects",
    "length_generalisation",
    "mean_patterns",
    "model_identities",
    "offset_curves",
    "overlap",
    "periodogram",
    "position_means",
    "position_pca",
    "position_rows",
    "position_similarity",
    "position_spectrum",
    "position_waves",
    "positional_power",
    "principal_angles",
    "random_overlap",
    "random_subspace",
    "rank_of_equal_share",
    "recovered_bias",
    "rotary_bands",
    "rotary_variant",
    "score_part_statistics",
    "score_parts",
    "scores_on_one_token",
    "shift_rotation",
    "sinusoidal_product",
    "spreads",
    "with_rotary",
]
