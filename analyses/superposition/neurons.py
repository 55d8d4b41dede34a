"""What toys with a ReLU hidden layer have in common for tables: neurons by how many features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import Check
from analyses.superposition.training import HELD_OUT_SEED
from interp.charts import Chart
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel
from interp.toys.evaluation import held_out_losses
from interp.toys.measures import monosemanticity
from interp.toys.motifs import features_served, self_contributions

SERVED = 0.25  # of a feature's own output that makes a neuron one of its neurons
COMPUTED = 0.5  # a slope from which a feature comes back
HELD_OUT_BATCHES = 8
KINDS = ("monosemantic", "polysemantic", "idle")


@dataclass(frozen=True)
class NeuronToys:
    """Trained toys, as many of each density, in fp64 on the CPU.

    Attributes:
        densities: From the densest.
        n_seeds: Toys of each.
        signed: Whether features are of both signs.
        W, W_out, b: Of all toys, the densest first.
        loss: Of fresh data.
    """

    densities: list[float]
    n_seeds: int
    signed: bool
    W: Float[Tensor, "instance neuron feature"]
    W_out: Float[Tensor, "instance feature neuron"]
    b: Float[Tensor, "instance feature"]
    loss: Float[Tensor, "instance"]

    @classmethod
    def of(
        cls,
        models: ToyModel,
        data: SparseFeatures,
        loss: ReconstructionLoss,
        densities: list[float],
        n_seeds: int,
    ) -> NeuronToys:
        """What tables need of trained models, their held-out losses measured."""
        fresh = replace(data, seeds=torch.full_like(data.seeds, HELD_OUT_SEED))
        losses = held_out_losses(models, fresh, loss, batches=HELD_OUT_BATCHES)
        W = models.W.detach()
        back = W.mT if models.W_out is None else models.W_out.detach()
        return cls(
            densities=densities,
            n_seeds=n_seeds,
            signed=data.values == "signed",
            W=W.double().cpu(),
            W_out=back.double().cpu(),
            b=models.b.detach().double().cpu(),
            loss=losses.double().mean(0).cpu(),
        )

    def span(self, number: int) -> slice:
        """The toys of a density."""
        return slice(self.n_seeds * number, self.n_seeds * (number + 1))

    def best(self, number: int) -> int:
        """The toy of a density with the least loss."""
        return self.n_seeds * number + int(self.loss[self.span(number)].argmin())

    @property
    def served(self) -> Bool[Tensor, "instance neuron feature"]:
        """Which features each neuron serves."""
        return features_served(self.W, self.W_out, self.signed, SERVED)

    @property
    def computed(self) -> Bool[Tensor, "instance feature"]:
        """Which features come back, with half their slope or more in the mean over signs."""
        return self.slopes.mean(1) >= COMPUTED

    @property
    def slopes(self) -> Float[Tensor, "instance sign feature"]:
        """With what slope each feature comes back when it is alone, but for bias and ReLU."""
        return self_contributions(self.W, self.W_out, self.signed).sum(-2)

    @property
    def monosemanticity(self) -> Float[Tensor, "instance neuron"]:
        """Of each neuron's input weights from features that come back.

        Others may keep the weights that they began with, which say nothing.
        """
        return monosemanticity(self.W * self.computed[:, None])


def by_density_table(toys: NeuronToys) -> pd.DataFrame:
    """Neurons of the best toy of each density, and of all its toys in the mean."""
    counts = toys.served.sum(-1)  # [instance neuron]
    kinds = {
        "monosemantic": (counts == 1).sum(-1),
        "polysemantic": (counts > 1).sum(-1),
        "idle": (counts == 0).sum(-1),
    }
    computed, mono = toys.computed, toys.monosemanticity
    rows = []
    for number, density in enumerate(toys.densities):
        best, span = toys.best(number), toys.span(number)
        at_work = counts[best] > 0
        row: dict[str, Any] = {
            "density": density,
            "inverse_density": 1 / density,
            "toys": toys.n_seeds,
            **{name: int(count[best]) for name, count in kinds.items()},
            "features_computed": int(computed[best].sum()),
            "features_per_neuron": float(counts[best][at_work].double().mean())
            if at_work.any()
            else 0.0,
            "monosemanticity": float(mono[best].mean()),
            **{f"mean_{name}": float(count[span].double().mean()) for name, count in kinds.items()},
            "mean_monosemanticity": float(mono[span].mean()),
            "loss": float(toys.loss[best]),
            "median_loss": float(toys.loss[span].median()),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def kinds_table(by_density: pd.DataFrame) -> pd.DataFrame:
    """How many neurons of each kind the best toys have, for a chart."""
    return by_density.melt(
        id_vars=["inverse_density"], value_vars=list(KINDS), var_name="kind", value_name="neurons"
    )


def neurons_table(toys: NeuronToys) -> pd.DataFrame:
    """The neurons of the best toys, those of important features first."""
    served, mono = toys.served, toys.monosemanticity
    rows = []
    for number, density in enumerate(toys.densities):
        best = toys.best(number)
        for place, neuron in enumerate(neuron_order(toys, best)):
            its = served[best, neuron].nonzero().squeeze(-1).tolist()
            rows.append(
                {
                    "density": density,
                    "place": place,
                    "neuron": neuron,
                    "kind": KINDS[min(len(its), 2) - 1],  # none: the last
                    "n_features": len(its),
                    "features": " ".join(map(str, its)),
                    "monosemanticity": float(mono[best, neuron]),
                }
            )
    return pd.DataFrame(rows)


def mean_feature(neurons: pd.DataFrame) -> float:
    """The mean number of the features that these rows of `neurons_table` serve; NaN if none."""
    served = [int(i) for text in neurons["features"] for i in text.split()]
    return sum(served) / len(served) if served else float("nan")


def neuron_order(toys: NeuronToys, instance: int) -> list[int]:
    """Neurons by the feature that they do most for; those at work before the others."""
    own = self_contributions(toys.W[instance], toys.W_out[instance], toys.signed)
    most, place = own.amax(0).max(-1)  # [neuron]
    idle = most < SERVED
    keys = zip(idle.tolist(), place.tolist(), (-most).tolist(), strict=True)
    return [k for _, k in sorted((key, k) for k, key in enumerate(keys))]


def kinds_chart(n_neurons: int) -> Chart:
    """Neurons of each kind by density."""
    return Chart(
        kind="line",
        table="kinds",
        title="Neurons by the number of features that they serve",
        alt="Dense features have neurons of their own; the sparser features are, the fewer neurons "
        "are monosemantic and the more serve several features.",
        x="inverse_density",
        y="neurons",
        color="kind",
        x_label="1 / (1 - S), with density 1 - S",
        y_label=f"neurons of the best toy, of {n_neurons}",
        log_x=True,
    )


def slope_check(models: ToyModel, toys: NeuronToys, name: str) -> Check:
    """What the model says of one feature at a time, beside the sum of what its neurons add.

    The models are run on unit inputs of either sign; where an output's ReLU is off, so is the
    formula's.
    """
    n = toys.W.shape[-1]
    signs = (1.0, -1.0) if toys.signed else (1.0,)
    eye = torch.eye(n, dtype=models.W.dtype, device=models.W.device)
    with torch.no_grad():
        found = torch.stack(
            [models((s * eye).expand(models.n_instances, n, n)) for s in signs], 1
        ).diagonal(dim1=-2, dim2=-1)  # [instance sign feature]
    expected = (toys.slopes + toys.b[:, None]).clamp_min(0.0)
    return Check(
        f"a feature alone comes back as its neurons say ({name})",
        scaled_error(found.cpu(), expected),
        TOLERANCES[models.W.dtype],
        SCALED,
    )


def falls(values: list[float], slack: float = 0.0) -> bool:
    """Whether numbers never rise by more than the slack, and end lower than they begin."""
    return all(b <= a + slack for a, b in pairwise(values)) and values[-1] < values[0]
