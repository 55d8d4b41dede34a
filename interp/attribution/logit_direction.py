"""A logit as a direction of the residual stream, and how each place of a model is seen from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.components.norm import Norm
from interp.errors import InputError
from interp.frozen_norms import pull_back
from interp.precision import wide

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer

PerPosition = Float[Tensor, "batch pos"]


@dataclass(frozen=True, slots=True)
class LogitDirection:
    """A logit, or a difference of two, as a direction in front of the final norm's division.

    Attributes:
        direction: u `[d_model]`: a component x contributes (x · u) / scale.
        norm_bias: What the final norm's bias adds, whatever the input.
        unembed_bias: What b_U adds.
    """

    direction: Float[Tensor, "d_model"]
    norm_bias: Float[Tensor, ""]
    unembed_bias: Float[Tensor, ""]

    @classmethod
    def of(
        cls,
        model: HookedTransformer,
        right: int,
        wrong: int | None = None,
        less_mean: bool = False,
    ) -> LogitDirection:
        """The direction of one token's logit, or of its excess over another's or over the mean.

        Raises:
            InputError: for a token outside the output vocabulary, or both references at once.
        """
        if wrong is not None and less_mean:
            raise InputError("less_mean and wrong are two references: give one.")
        for token in (right, wrong):
            if token is not None and not 0 <= token < model.cfg.d_vocab_out:
                raise InputError(
                    f"a token must lie in 0 … {model.cfg.d_vocab_out - 1}. Received {token}."
                )
        if model.cfg.head != "lm":
            raise InputError(
                f"a logit is linear in the residual stream only with head='lm'. "
                f"This model's is {model.cfg.head!r}."
            )
        W_U, b_U = wide(model.W_U[:, right]), wide(model.b_U[right])
        if wrong is not None:
            W_U, b_U = W_U - wide(model.W_U[:, wrong]), b_U - wide(model.b_U[wrong])
        if less_mean:
            W_U, b_U = W_U - wide(model.W_U).mean(-1), b_U - wide(model.b_U).mean()
        W_U = W_U * model.cfg.logit_scale
        norm = model.main_stack.ln_final
        norm_bias = torch.zeros_like(b_U)
        if isinstance(norm, Norm):
            if norm.b is not None:
                norm_bias = wide(norm.b) @ W_U
            W_U = pull_back(norm, W_U)
        return cls(W_U, norm_bias, b_U)


class LogitView(NamedTuple):
    """A place in the stack, seen from a logit: what is written there adds (x · direction) / scale.

    Attributes:
        direction: `[d_model]`, on the model's device.
        scale: `[batch, pos, 1]`, on that of the records.
    """

    direction: Float[Tensor, "d_model"]
    scale: Float[Tensor, "batch pos 1"]

    def along(self, weights: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes"]:
        """Weights of the model projected on the direction, for use beside the records."""
        return (wide(weights) @ self.direction).to(self.scale.device)

    def read(self, written: Float[Tensor, "batch pos d_model"]) -> PerPosition:
        """What something written at this place adds."""
        return wide(written) @ self.direction.to(written.device) / self.scale[..., 0]

    def constant(self, bias: Float[Tensor, "d_model"] | None) -> PerPosition:
        """What a bias added at this place adds everywhere; None: nothing."""
        if bias is None:
            return torch.zeros_like(self.scale[..., 0])
        return self.along(bias) / self.scale[..., 0]

    def before(self, name: str | None, stack: Any, cache: ActivationCache) -> LogitView:
        """The same in front of a norm; None: there is none."""
        if name is None:
            return self
        scale = wide(cache[f"{name}.hook_scale"])
        norm = stack.get_submodule(name)
        return LogitView(pull_back(norm, self.direction), self.scale * scale)
