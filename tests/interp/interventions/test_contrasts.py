"""Contrasts of two sets of prompts against means of recorded activations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interp import InputError
from interp.interventions import Place
from interp.interventions.contrasts import contrast

ROWS, OTHERS = [[1, 5, 9, 7], [1, 2]], [[1, 6, 8]]


def test_the_difference_of_means(make_model: Any, assert_close: Any) -> None:
    model = make_model()
    hook = "blocks.1.hook_resid_pre"

    def rows(prompts: list[list[int]], name: str) -> list[torch.Tensor]:
        with torch.no_grad():
            return [model.run_with_cache(torch.tensor([p]))[1][name][0] for p in prompts]

    mean = torch.cat(rows(ROWS, hook)).mean(0) - torch.cat(rows(OTHERS, hook)).mean(0)
    assert_close(contrast(model, Place("resid_pre", layers=1), ROWS, OTHERS), mean)
    last = torch.stack([x[-1] for x in rows(ROWS, hook)]).mean(0) - rows(OTHERS, hook)[0][-1]
    assert_close(contrast(model, hook, ROWS, OTHERS, position=-1), last)
    z = "blocks.0.attn.hook_z"
    of_head = torch.stack([x[1, 2] for x in rows(ROWS, z)]).mean(0) - rows(OTHERS, z)[0][1, 2]
    place = Place("z", layers=0, heads=-2)
    assert_close(contrast(model, place, ROWS, OTHERS, position=1), of_head)


@pytest.mark.parametrize(
    ("place", "position", "message"),
    [
        (Place("resid_pre"), None, "at one hook"),
        (Place("z", layers=0), None, "of one head"),
        (Place("pattern", layers=0, heads=0), None, "no pattern"),
        (Place("resid_pre", layers=0), 2, "position must lie in"),
    ],
)
def test_what_has_no_contrast(make_model: Any, place: Place, position: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        contrast(make_model(), place, ROWS, OTHERS, position)
