"""The helpers that ported scripts import."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from interp import load_model, utils


def test_to_numpy() -> None:
    tensor = torch.tensor([1.5, 2.5], dtype=torch.bfloat16, requires_grad=True)
    assert utils.to_numpy(tensor).dtype == np.float32
    assert utils.to_numpy([1, 2]).tolist() == [1, 2]
    assert utils.to_numpy(3.0) == 3.0


def test_losses_and_accuracy_by_hand() -> None:
    torch.manual_seed(0)
    logits, tokens = torch.randn(2, 4, 7), torch.randint(0, 7, (2, 4))
    expected = -logits.log_softmax(-1)[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    losses = utils.lm_cross_entropy_loss(logits, tokens, per_token=True)
    assert torch.allclose(losses, expected, atol=1e-6)
    assert torch.allclose(utils.lm_cross_entropy_loss(logits, tokens), expected.mean(), atol=1e-6)
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    counted = torch.cat([expected[0], expected[1, 2:]]).mean()
    assert torch.allclose(utils.lm_cross_entropy_loss(logits, tokens, mask), counted, atol=1e-6)
    certain = 10.0 * F.one_hot(tokens.roll(-1, 1), 7).float()
    assert utils.lm_accuracy(certain, tokens) == 1.0
    assert utils.lm_accuracy(-certain, tokens, per_token=True).sum() == 0


def test_prompt_tells_the_rank(capsys: pytest.CaptureFixture[str]) -> None:
    model = load_model("zoo:induction")
    ranks = utils.test_prompt("k T 4 w Z m 9 b k T 4 w", "Z", model)
    assert ranks == [0]
    assert "'Z': rank 0, probability" in capsys.readouterr().out
    assert utils.test_prompt("k T 4 w Z m 9 b k T 4 w", "q", model)[0] > 0
