"""One toy as tables: planted polytopes, products by hand."""

from __future__ import annotations

import pytest
import torch

from analyses.superposition import one_toy
from interp.errors import InputError
from interp.toys import polytopes
from interp.toys.geometry import recognise

W = torch.tensor([[1.0, 0.0, -0.5, 0.0], [0.0, 2.0, 0.0, 0.0]], dtype=torch.float64)


def test_weights_and_products() -> None:
    weights = one_toy.weights(W)
    assert weights.pivot(index="hidden", columns="feature", values="weight").to_numpy().tolist() \
        == W.tolist()  # fmt: skip
    products = one_toy.products(W).set_index(["output", "feature"])["product"]
    assert (products[0, 2], products[1, 1], products[2, 2], products[0, 1]) == (-0.5, 4, 0.25, 0)
    back = torch.tensor([[1.0, 1.0]] * 4, dtype=torch.float64)
    untied = one_toy.products(W, back).set_index(["output", "feature"])["product"]
    assert (untied[3, 0], untied[0, 1], untied[2, 2]) == (1.0, 2.0, -0.5)


def test_products_see_the_relu_of_the_hidden_layer() -> None:
    """The paper's |x|: a neuron for each sign, so that x itself would come back as nothing."""
    way_in = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    back = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    assert one_toy.products(way_in, back)["product"].tolist() == [0.0]
    assert one_toy.products(way_in, back, "relu")["product"].tolist() == [1.0]
    assert one_toy.products(way_in, None, "relu")["product"].tolist() == [1.0]
    x = torch.eye(4, dtype=torch.float64)
    found = one_toy.products(W, None, "relu").pivot(index="output", columns="feature")
    assert found.to_numpy().tolist() == (W.mT @ (W @ x).relu()).tolist()
    assert one_toy.products_chart(1.0, False, "it", "relu").value_label == "W_out ReLU(W)"
    assert one_toy.products_chart(1.0, True, "it").value_label == "WᵀW"


def test_measures_of_a_digon_a_lone_feature_and_an_absent_one() -> None:
    table = one_toy.measures(W)
    assert table["norm"].tolist() == [1.0, 2.0, 0.5, 0.0]
    assert table["superposition"].tolist() == pytest.approx([0.25, 0, 1, 0], abs=1e-12)
    assert table["dimensionality"].tolist() == pytest.approx([0.8, 1, 0.2, 0], abs=1e-12)
    assert table["part"].tolist() == ["digon", "monosemantic", "digon", "absent"]
    assert table["shared"].isna().tolist() == [False, False, False, True]


def test_parts_are_told_apart() -> None:
    table = one_toy.measures(polytopes.octahedron())
    assert table["part"].tolist() == ["digon 1"] * 2 + ["digon 2"] * 2 + ["digon 3"] * 2


def test_directions_up_to_three_dimensions_are_the_columns() -> None:
    table = one_toy.directions(W).sort_values("feature")
    assert table[["x", "y"]].to_numpy().T.tolist() == W.tolist()
    assert (table["kept"] == 1).all() and "z" not in table.columns
    line = one_toy.directions(polytopes.digon())
    assert (line["x"].tolist(), line["y"].tolist()) == ([1.0, -1.0], [0.0, 0.0])
    solid = one_toy.directions(polytopes.cube()).sort_values("feature")
    assert solid[["x", "y", "z"]].to_numpy().T.tolist() == polytopes.cube().tolist()


def test_more_dimensions_are_seen_along_the_principal_ones() -> None:
    wide = polytopes.tegum_product(
        3 * polytopes.digon(), 2 * polytopes.digon(), polytopes.digon(), 0.5 * polytopes.digon()
    )
    table = one_toy.directions(wide).sort_values("feature")
    assert table["kept"].iloc[0] == pytest.approx((9 + 4 + 1) / (9 + 4 + 1 + 0.25))
    seen = table[["x", "y", "z"]].abs().to_numpy()
    assert seen[:2].flatten().tolist() == pytest.approx([3, 0, 0] * 2)
    assert seen[6:] == pytest.approx(0.0, abs=1e-12)


def test_edges_of_the_recognised_polytope() -> None:
    octahedron = polytopes.octahedron()
    found = one_toy.edges(octahedron, recognise(octahedron))
    opposite = {(0, 1), (2, 3), (4, 5)}
    assert set(found) == {(i, j) for i in range(6) for j in range(i + 1, 6)} - opposite
    pentagon = torch.zeros(2, 7, dtype=torch.float64)
    pentagon[:, [1, 2, 3, 5, 6]] = polytopes.pentagon()
    assert one_toy.edges(pentagon, recognise(pentagon)) == [(1, 2), (1, 6), (2, 3), (3, 5), (5, 6)]
    wide = polytopes.tegum_product(polytopes.pentagon(), polytopes.triangle())
    found = one_toy.edges(wide, recognise(wide))
    assert found == [(0, 1), (0, 4), (1, 2), (2, 3), (3, 4), (5, 6), (5, 7), (6, 7)]
    two = torch.eye(5, dtype=torch.float64)[:, :2]
    assert len(one_toy.directions(two).filter(list("xyz")).columns) == 3  # though it spans two
    unnamed = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.3, 0.9]], dtype=torch.float64)
    assert one_toy.edges(unnamed, recognise(unnamed)) == []


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        (polytopes.cube(), 12),
        (polytopes.square_antiprism(), 16),
        (polytopes.icosahedron(), 30),
        (polytopes.regular_polygon(8), 8),
    ],
)
def test_edges_are_the_shape_s_whatever_the_lengths(shape: torch.Tensor, count: int) -> None:
    generator = torch.Generator().manual_seed(2)
    lengths = 0.7 + 0.6 * torch.rand(shape.shape[1], dtype=shape.dtype, generator=generator)
    uneven = shape * lengths
    assert len(one_toy.edges(uneven, recognise(uneven))) == count


def test_tables_over_densities_and_steps() -> None:
    both = torch.stack([polytopes.square_antiprism()[:2, :4], W])
    table = one_toy.by_density(both, [0.5, 0.25])
    assert table["density_text"].tolist() == ["0.5"] * 4 + ["0.25"] * 4
    assert table["norm"].tolist()[4:] == [1.0, 2.0, 0.5, 0.0]
    shapes = one_toy.shapes(both, [0.5, 0.25])
    assert shapes["geometry"].tolist()[1] == "digon × monosemantic"
    assert shapes["represented"].tolist()[1] == 3
    assert shapes["dimensions_per_feature"][1] == pytest.approx(2 / 5.25)
    flat = one_toy.directions_by_density(both, [0.5, 0.25])
    assert flat[flat["toy"] == "1-S = 0.25"]["x"].tolist() == [1.0, 0.0, -0.5, 0.0]
    with pytest.raises(InputError, match="one or two dimensions"):
        one_toy.directions_by_density(polytopes.cube()[None], [0.5])
    time = one_toy.over_time(both, [0, 10])
    assert time[time["step"] == 10]["dimensionality"].tolist() == pytest.approx([0.8, 1, 0.2, 0])
    assert time["feature"].tolist() == ["0", "1", "2", "3"] * 2
    losses = one_toy.losses_by_density(torch.tensor([[3.0, 2.0], [1.0, 0.5]]), [0, 10], [1.0, 0.1])
    assert losses["loss"].tolist() == [3.0, 2.0, 1.0, 0.5]
    assert losses["condition"].tolist() == ["1-S = 1", "1-S = 0.1"] * 2
    assert losses["step"].tolist() == [0, 0, 10, 10]


def test_charts_draw_their_tables_on_the_scale_they_are_given() -> None:
    pairs = [
        (one_toy.weights_chart(3.0, "it"), one_toy.weights(W)),
        (one_toy.products_chart(5.0, True, "it"), one_toy.products(W)),
        (one_toy.measure_chart("norm", 2.5, "it", "So."), one_toy.measures(W)),
        (one_toy.measure_chart("dimensionality", 1.0, "it", "So."), one_toy.measures(W)),
        (one_toy.directions_chart(2.5, "it", "So."), one_toy.directions(W)),
        (one_toy.directions_by_density_chart(2.5), one_toy.directions_by_density(W[None], [0.5])),
    ]
    for chart, table in pairs:
        assert len(chart.rows(table)) == len(table)
    with pytest.raises(InputError, match="within its limits"):
        one_toy.weights_chart(1.5, "it").rows(one_toy.weights(W))
