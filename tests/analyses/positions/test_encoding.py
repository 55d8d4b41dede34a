from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analyses.positions.encoding import (
    angles_table,
    cosines_table,
    paths_table,
    vectors_of_positions,
    waves_table,
)
from interp import InputError


def test_vectors_are_the_rows_of_the_table(make_model):
    model = make_model(positional_embedding_type="standard")
    assert torch.equal(vectors_of_positions(model, 9), model.W_pos[:9])


def test_cosines_of_every_two_positions(make_model):
    model = make_model(positional_embedding_type="standard")
    with torch.no_grad():
        model.W_pos[2] = 0
    table = cosines_table(model, 6)
    grid = table.pivot(index="position", columns="other", values="cosine").to_numpy()
    for i in range(6):
        for j in range(6):
            cosine = torch.cosine_similarity(model.W_pos[i], model.W_pos[j], dim=0).item()
            assert grid[i, j] == pytest.approx(cosine, abs=1e-6)
    assert (grid[2] == 0).all()


def test_a_wave_in_the_table_is_found_and_shares_sum_to_one(make_model):
    model = make_model(positional_embedding_type="standard")
    t = torch.arange(16) * 2 * math.pi * 3 / 16
    with torch.no_grad():
        model.W_pos.zero_()
        model.W_pos[:, 0], model.W_pos[:, 1] = t.cos(), t.sin()
    table = waves_table(model, 16)
    assert table["turns"].tolist() == list(range(1, 9))
    assert table["period"][2] == pytest.approx(16 / 3)
    assert table["share"].idxmax() == 2 and table["share"][2] > 0.85  # but for the line taken out
    # The components are that circle: two of equal share, each a wave with a variance of a half.
    paths = paths_table(model, 16)
    names = paths["component"].unique()
    assert names[0] == "component 1 (50%)" and names[1] == "component 2 (50%)"
    radius = sum(paths[paths["component"] == name]["score"].to_numpy() ** 2 for name in names[:2])
    assert np.allclose(radius, 1, atol=1e-5)


def test_rotary_bands_turn_as_their_base_says(make_model):
    model = make_model(positional_embedding_type="rotary", rotary_dim=6, rotary_base=100.0)
    table = angles_table(model, 8)
    for band in range(3):
        speed = 100.0 ** (-2 * band / 6)
        rows = table[table["band"] == band]
        assert rows["distance"].tolist() == list(range(8))
        assert rows["cosine"].tolist() == pytest.approx(
            [math.cos(speed * d) for d in range(8)], abs=1e-10
        )
        assert rows["wavelength"].iloc[0] == pytest.approx(2 * math.pi / speed)
    assert list(table["label"].unique()) == ["6.28", "29.2", "135"]


def test_dimensions_that_do_not_turn_are_a_band_that_stands_still(make_model):
    model = make_model(positional_embedding_type="rotary", rotary_dim=4)
    still = angles_table(model, 5).query("label == 'still'")
    assert (still["cosine"] == 1).all() and len(still) == 5


def test_each_stack_has_its_own_vectors(make_model):
    model = make_model(
        architecture="encoder-decoder", decoder_start_token_id=0,
        positional_embedding_type="standard",
    )  # fmt: skip
    found = {part: vectors_of_positions(model, 5, part) for part in ("encoder", "decoder")}
    assert torch.equal(found["encoder"], model.encoder.pos_embed.W_pos[:5])
    assert torch.equal(found["decoder"], model.decoder.pos_embed.W_pos[:5])
    assert torch.equal(found["decoder"], vectors_of_positions(model, 5))


def test_what_is_not_there_is_refused(make_model):
    model = make_model(positional_embedding_type="standard")
    with pytest.raises(InputError, match=r"reads 16 positions\. Received n 17"):
        cosines_table(model, 17)
    with pytest.raises(InputError, match=r"4 positions or more\. Received n 3"):
        waves_table(model, 3)
    with pytest.raises(InputError, match=r"4 positions or more\. Received n 3"):
        paths_table(model, 3)
    with pytest.raises(InputError, match="rotary bands need rotary"):
        angles_table(model, 4)
    with pytest.raises(InputError, match="no vectors but 'alibi'"):
        cosines_table(make_model(positional_embedding_type="alibi"), 4)
