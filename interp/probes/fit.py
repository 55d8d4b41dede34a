"""What a fit gives: a probe, how it was chosen, and its scores."""

from __future__ import annotations

import abc
import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor

from interp.errors import require
from interp.probes.scores import Estimate, Scores


class _Reader(abc.ABC):
    """What probes of every kind have in common."""

    classes: Tensor | None
    one_target: bool

    @abc.abstractmethod
    def decision(self, features: Float[Tensor, "... dim"]) -> Float[Tensor, "... output"]:
        """The outputs: predicted numbers, or what classes' log-probabilities are made from."""

    def log_probs(self, features: Float[Tensor, "... dim"]) -> Float[Tensor, "... class"]:
        """Of each class.

        Raises:
            InputError: for features of another size, or a probe of numbers.
        """
        require(self.classes is not None, "probabilities are a classifier's. This predicts numbers")
        return log_probs_of(self.decision(features))

    def predict(self, features: Float[Tensor, "... dim"]) -> Tensor:
        """Numbers, shaped as the targets were, or the ids of the likeliest classes, `[...]`.

        Raises:
            InputError: for features of another size.
        """
        decision = self.decision(features)
        if self.classes is None:
            return decision[..., 0] if self.one_target else decision
        found: Tensor = self.classes[log_probs_of(decision).argmax(-1)]
        return found


@dataclass(frozen=True)
class LinearProbe(_Reader):
    """A linear map from features as they are, not standardised.

    Attributes:
        weight: What each feature adds to each output. Of two classes there is one output.
        bias: What is added to each output.
        classes: The id of each class; None: outputs are numbers.
        one_target: Whether there was one target for each sample, without an axis for outputs.
    """

    weight: Float[Tensor, "dim output"]
    bias: Float[Tensor, "output"]
    classes: Int[Tensor, "class"] | None = None
    one_target: bool = True

    def decision(self, features: Float[Tensor, "... dim"]) -> Float[Tensor, "... output"]:
        """The outputs: predicted numbers, or what classes' log-probabilities are made from.

        They are computed in the weights' dtype and on their device.

        Raises:
            InputError: for features of another size.
        """
        return _checked(features, self.weight) @ self.weight + self.bias

    @functools.cached_property
    def directions(self) -> Float[Tensor, "rank dim"]:
        """An orthonormal basis of what the probe reads: of the span of the outputs' weights.

        Features that differ only at right angles to these rows are the same to the probe, but for
        directions with singular values of at most √(rounding unit) of the largest one, which are
        left out as what rounding makes of none. There are no rows if all weights are zero. The
        strongest come first.
        """
        left, sizes, _ = torch.linalg.svd(self.weight, full_matrices=False)
        least = torch.finfo(sizes.dtype).eps ** 0.5 * sizes[:1]
        kept: Tensor = left[:, (sizes > least) & (sizes > 0)]
        return kept.mT.contiguous()

    def to_dict(self) -> dict[str, Shaped[Tensor, "..."]]:
        """As tensors, to be kept in a file; `probe_from_dict` reads them."""
        found = {"weight": self.weight, "bias": self.bias}
        found["one_target"] = torch.tensor(self.one_target)
        return found if self.classes is None else {**found, "classes": self.classes}


@dataclass(frozen=True)
class MLPProbe(_Reader):
    """One hidden layer of rectified units over features, of which mean and scale are taken off.

    Attributes:
        mean, scale: Of each feature; a constant one has the scale infinity.
        w_in, b_in: Into the hidden layer.
        w_out, b_out: Out of it; of two classes there are two outputs.
        classes: The id of each class; None: outputs are numbers.
        one_target: Whether there was one target for each sample, without an axis for outputs.
    """

    mean: Float[Tensor, "dim"]
    scale: Float[Tensor, "dim"]
    w_in: Float[Tensor, "dim hidden"]
    b_in: Float[Tensor, "hidden"]
    w_out: Float[Tensor, "hidden output"]
    b_out: Float[Tensor, "output"]
    classes: Int[Tensor, "class"] | None = None
    one_target: bool = True

    def decision(self, features: Float[Tensor, "... dim"]) -> Float[Tensor, "... output"]:
        """The outputs, in the weights' dtype and on their device.

        Raises:
            InputError: for features of another size.
        """
        x = (_checked(features, self.w_in) - self.mean) / self.scale
        return (x @ self.w_in + self.b_in).relu() @ self.w_out + self.b_out

    def to_dict(self) -> dict[str, Shaped[Tensor, "..."]]:
        """As tensors, to be kept in a file; `probe_from_dict` reads them."""
        names = ("mean", "scale", "w_in", "b_in", "w_out", "b_out")
        found: dict[str, Tensor] = {name: getattr(self, name) for name in names}
        found["one_target"] = torch.tensor(self.one_target)
        return found if self.classes is None else {**found, "classes": self.classes}


Probe = LinearProbe | MLPProbe


def probe_from_dict(tensors: Mapping[str, Shaped[Tensor, "..."]]) -> Probe:
    """The probe that `to_dict` made these of.

    Raises:
        InputError: for other names.
    """
    made: type[Probe] = LinearProbe if "weight" in tensors else MLPProbe
    expected = set(made.__dataclass_fields__)
    names = set(tensors)
    require(
        expected - {"classes"} <= names <= expected,
        f"a probe is the tensors {', '.join(sorted(expected))}. Received {sorted(names)}",
    )
    given = {k: v for k, v in tensors.items() if k != "one_target"}
    return made(**given, one_target=bool(tensors["one_target"]))


@dataclass(frozen=True)
class ProbeFit:
    """A probe at one site.

    Attributes:
        site: Its name.
        probe: Fitted on the training samples alone.
        chosen: The regularisation with the least validation loss: ridge's alpha, logistic
            regression's C, an MLP's best epoch.
        validation: The validation loss of each regularisation tried (of an MLP: of each epoch).
        scores: On the test samples, with intervals.
        mean, scale: Of the training features; the penalty is on weights of the features so scaled.
    """

    site: str
    probe: Probe
    chosen: float
    validation: dict[float, float]
    scores: Scores
    mean: Float[Tensor, "dim"]
    scale: Float[Tensor, "dim"]

    def __getitem__(self, score: str) -> Estimate:
        """A score by its name: `mae`, `r2`, `accuracy` or, of classes, `log_loss`."""
        return self.scores[score]

    @property
    def at_edge(self) -> bool:
        """Whether the regularisation chosen is the first or last of several: widen the grid."""
        return len(self.validation) > 1 and self.chosen in (
            min(self.validation),
            max(self.validation),
        )

    @property
    def weight(self) -> Float[Tensor, "dim output"]:
        """Of a linear probe, in the space of the features as they are.

        Raises:
            InputError: for an MLP.
        """
        return self._linear().weight

    @property
    def bias(self) -> Float[Tensor, "output"]:
        """Of a linear probe.

        Raises:
            InputError: for an MLP.
        """
        return self._linear().bias

    @property
    def directions(self) -> Float[Tensor, "rank dim"]:
        """Of a linear probe: an orthonormal basis of what it reads (`LinearProbe.directions`).

        Raises:
            InputError: for an MLP.
        """
        return self._linear().directions

    def predict(self, features: Float[Tensor, "... dim"]) -> Num[Tensor, "..."]:
        """What the probe predicts.

        Raises:
            InputError: for features of another size.
        """
        return self.probe.predict(features)

    def _linear(self) -> LinearProbe:
        require(isinstance(self.probe, LinearProbe), "an MLP has no one weight for each feature")
        assert isinstance(self.probe, LinearProbe)
        return self.probe


def log_probs_of(decision: Float[Tensor, "... output"]) -> Float[Tensor, "... class"]:
    """Log-probabilities of classes: of two with one output by the sigmoid, else by the softmax."""
    if decision.shape[-1] > 1:
        return decision.log_softmax(-1)
    both = torch.cat([-decision, decision], -1)
    return torch.nn.functional.logsigmoid(both)


def _checked(features: Tensor, weight: Float[Tensor, "dim output"]) -> Tensor:
    dim = weight.shape[0]
    require(
        features.ndim > 0 and features.shape[-1] == dim,
        f"this probe reads {dim} features. Received {list(features.shape)}",
    )
    return features.to(weight)
