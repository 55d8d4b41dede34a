"""The values of worlds do not depend on how many of their logits are taken at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer
from interp.patching.axes import Window
from interp.patching.base import BaseRun
from interp.patching.metrics import LogitDiff, LogProb, Loss, Metric
from interp.patching.read_out import make_read_out

BATCH, POS, WORLDS = 2, 4, 5


@pytest.mark.parametrize("metric", [LogitDiff(1, 2), LogProb(3, pos=1), Loss()])
@pytest.mark.parametrize("in_pieces", [1, 2, 3])
def test_of_some_worlds_and_positions_at_a_time(
    metric: Metric, in_pieces: int, make_model: Callable[..., HookedTransformer]
) -> None:
    model = make_model(dtype=torch.float64)
    tokens = torch.arange(BATCH * POS).view(BATCH, POS) % model.cfg.d_vocab
    stream = torch.randn(WORLDS * BATCH, POS, model.cfg.d_model, dtype=torch.float64)
    found = []
    with torch.no_grad():
        run = BaseRun(model, tokens)
        run.run(set(), set(), keeps_keys=False)
        columns = model.cfg.d_vocab_out if metric.columns is None else metric.columns.shape[-1]
        for budget in (2**30, BATCH * columns * 16 * in_pieces):
            read_out = make_read_out(run, metric, budget)
            read_out.base()
            found.append(read_out.worlds(stream, WORLDS, Window(0, POS)))
    at_once, in_parts = found
    assert at_once.shape == (WORLDS, BATCH)
    torch.testing.assert_close(in_parts, at_once, rtol=0, atol=1e-12)
