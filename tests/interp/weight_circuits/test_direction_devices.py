from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer
from interp.weight_circuits.direction_measures import (
    cosines,
    dimensionality_of_rows,
    measure_directions,
    near_copies,
    nearest_directions,
    random_like,
)
from interp.weight_circuits.directions import weight_directions
from interp.weight_circuits.overlap import alignment, head_overlap
from tests.interp.kinds import KINDS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
Make = Callable[..., HookedTransformer]


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "mixtral-post", "marian"])
def test_cuda_as_the_cpu(kind: str, make_model: Make, assert_close: Callable[..., None]) -> None:
    here = make_model(**{**KINDS[kind], "dtype": "float64"})
    there = make_model(**{**KINDS[kind], "dtype": "float64"}).to("cuda")
    for a, b in zip(weight_directions(here), weight_directions(there), strict=True):
        assert b.vectors.is_cuda
        found, expected = (measure_directions(x.vectors) for x in (b, a))
        assert_close(found.dimensionality.cpu(), expected.dimensionality, a.label)
        assert_close(found.moment.cpu(), expected.moment, a.label)
        rows = torch.arange(len(a))
        by_pair = dimensionality_of_rows(b.vectors, rows.cuda())
        assert_close(by_pair.cpu(), expected.dimensionality, a.label)
        # Whichever of equal cosines is found, they are equal.
        drawn = [random_like(x, torch.Generator().manual_seed(0)) for x in (b, a)]
        norms = [x.vectors.norm(dim=1).cpu() for x in drawn]
        assert_close(norms[0], norms[1], a.label)
        if a.of_heads:
            assert_close(head_overlap(b).overlap.cpu(), head_overlap(a).overlap, a.label)
            continue
        assert_close(drawn[0].vectors.cpu(), drawn[1].vectors, a.label)
        found_cosines, expected_cosines = cosines(b.vectors, rows.cuda()), cosines(a.vectors, rows)
        nearest = found_cosines.nearest_cosine.cpu()
        assert_close(nearest, expected_cosines.nearest_cosine, a.label)
        assert int(found_cosines.counts.sum()) == int(expected_cosines.counts.sum())
        values = nearest_directions(b.vectors, rows.cuda(), 3)[1].cpu()
        assert_close(values, nearest_directions(a.vectors, rows, 3)[1], a.label)
        copies = near_copies(b.vectors, rows.cuda(), 0.5).cpu()
        assert torch.equal(copies, near_copies(a.vectors, rows, 0.5))
        both = alignment(found.moment, found.moment, a.width).cpu()
        assert_close(both, alignment(expected.moment, expected.moment, a.width), a.label)
