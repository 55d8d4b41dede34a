"""Metrics that read tokens get those that the logits are of."""

from __future__ import annotations

from collections.abc import Callable

import torch

from interp import HookedTransformer
from interp.attribution.inputs import integrated_gradients
from interp.patching.metrics import Loss
from tests.interp.kinds import KINDS, given_to


def test_the_loss_along_a_path_is_that_of_the_decoder(
    make_model: Callable[..., HookedTransformer], assert_close: Callable[..., None]
) -> None:
    model = make_model(dtype="float64", **KINDS["t5"])
    given = given_to(model)
    length = given["decoder_input"].shape[1]
    given["input"] = given["input"][:, :length]  # as long: only the tokens tell them apart
    given.pop("attention_mask", None)
    with torch.no_grad():
        log_probs = model(**given).log_softmax(-1)
    wanted = given["decoder_input"][:, 1:, None]
    expected = -log_probs[:, :-1].gather(-1, wanted)[..., 0].mean(-1)
    found = integrated_gradients(model, metric=Loss(), baseline=2, steps=1, **given)
    assert_close(found.value, expected)
