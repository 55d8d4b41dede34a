"""Whether sparse autoencoders find the features that a toy holds in superposition."""

from __future__ import annotations

import torch

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.recovery_runs import (
    Hidden,
    RecoveryParams,
    enough,
    grown,
    hidden_layer,
    recovery,
)
from analyses.superposition.recovery_tables import (
    Dictionaries,
    cosines_table,
    features_table,
    figures,
    findings_of,
    growth_table,
    histogram_table,
    toy_table,
    training_table,
)
from analyses.superposition.training import loss_check
from interp.progress import stage
from interp.sae import explained_variance, mean_max_cosine
from interp.toys.evaluation import held_out_losses


@register
class SuperpositionRecovery(Analysis[RecoveryParams]):
    """Sparse autoencoders on a toy's hidden layer, and their units beside the toy's features.

    A toy model holds more features than it has hidden dimensions, and what they are is known. So
    it can be told whether a dictionary finds them, and which of the signs that one has in a real
    model (variance explained, dead and duplicate units) say so. Sources: Elhage et al. 2022, Toy
    Models of Superposition; Sharkey et al. 2022, Taking features out of superposition with sparse
    autoencoders (mean max cosine similarity); Bricken et al. 2023, Towards Monosemanticity (ReLU
    and L1, resampling); Gao et al. 2024 (TopK, AuxK); Rajamanoharan et al. 2024 (gated). The
    defaults, twelve dictionaries, take about 80 seconds of one CPU core.
    """

    name = "superposition-recovery"
    question = "Do sparse autoencoders find the features of a toy in superposition?"
    needs_model = False
    lengthy = True
    caveat = (
        "A toy's features are independent, equally frequent, equally important and linear in its "
        "hidden layer, which is all that these dictionaries assume and more than is known of a "
        "real model: that they find them here is necessary, not sufficient. Only features that the "
        "toy represents can be found. A mean max cosine is high also where many units share one "
        "feature and where a large dictionary covers the space (random units in few dimensions "
        "come near to anything): compare chance, own_cosine (which gives every feature a unit of "
        "its own), unit_cosine and the number of dead units. Kinds are compared at one setting of "
        "each, not at their best, and the L1 coefficients and k were chosen for the default toy: "
        "at other densities and sizes choose anew. A larger dictionary starts from the last one's "
        "units, so it has also been trained for longer (start=anew: for as long). Each is one "
        "training run from one seed."
    )

    def quick(self, params: RecoveryParams) -> RecoveryParams:
        """Fewer features, and short trainings of a size too small and one that is large enough."""
        return params.model_copy(
            update={
                "n_features": 32,
                "d_hidden": 12,
                "density": 0.03,
                "steps": 200,
                "sizes": [20, 64],
                "sae_steps": 150,
                "sae_lr": 0.04,
                "samples": 1 << 14,
            }
        )

    def run(self, model: None, params: RecoveryParams) -> AnalysisResult:
        """Make the toy, grow dictionaries of each kind, and put their units beside its features."""
        hidden = hidden_layer(params)
        loss = float(held_out_losses(hidden.model, hidden.data, hidden.loss, batches=4).mean())
        dictionaries = {}
        for i, kind in enumerate(params.kinds):
            with stage(i, len(params.kinds), f"{kind} dictionaries"):
                dictionaries[kind] = grown(params, hidden, kind)
        recoveries = {
            kind: [recovery(hidden, each) for each in of_kind]
            for kind, of_kind in dictionaries.items()
        }
        chosen = {kind: enough(params, each) for kind, each in dictionaries.items()}
        given = (dictionaries, recoveries, chosen, hidden)
        features = features_table(*given)
        growth = growth_table(*given)
        tables = {
            "findings": findings_of(growth),
            "growth": growth,
            "toy": toy_table(hidden, loss),
            "features": features,
            "histogram": histogram_table(features),
            "cosines": cosines_table(*given),
            "training": training_table(dictionaries),
        }
        return self.result(
            None,
            params,
            tables=tables,
            figures=figures(tables),
            checks=_checks(hidden, dictionaries),
        )


@torch.no_grad()
def _checks(hidden: Hidden, dictionaries: Dictionaries) -> list[Check]:
    """Identities of every dictionary, at the largest deviation among them."""
    tolerance = TOLERANCES[hidden.pool.dtype]
    explained, lengths, parts, firing = [0.0], [0.0], [0.0], [0.0]
    x = hidden.held_out
    for of_kind in dictionaries.values():
        for each in of_kind:
            sae = each.sae
            found = torch.tensor(each.scores.fve)
            explained.append(scaled_error(found, explained_variance(x, sae(x)).cpu()))
            norms = torch.linalg.vector_norm(sae.W_dec.double(), dim=1)
            lengths.append(float((norms - 1).abs().max()))
            told = sae.loss(x[:1024])
            total = (told.reconstruction + told.sparsity + told.auxiliary).mean()
            parts.append(scaled_error(told.total, total))
            if sae.cfg.k is not None:
                most = int((told.activations > 0).sum(1).max())
                firing.append(float(max(most - sae.cfg.k, 0)))
    to_itself = mean_max_cosine(hidden.true[hidden.represented], hidden.true[hidden.represented])
    return [
        loss_check(hidden.model, hidden.data, hidden.loss),
        Check(
            "variance explained is that of x and x̂, read at once",
            max(explained),
            tolerance,
            SCALED,
        ),
        Check("rows of W_dec have unit length", max(lengths), tolerance),
        Check("losses are the sums of their parts", max(parts), tolerance, SCALED),
        Check("no more than k units of a TopK SAE fire", max(firing), 0.0, "units too many"),
        Check(
            "the toy's features are found among themselves",
            float((1 - to_itself.of_features).abs()),
            tolerance,
        ),
    ]
