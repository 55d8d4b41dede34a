from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult, run_analysis
from interp import HookedTransformer, InputError
from interp.attribution import proximity_hooks, stream_importance, trace_routes
from interp.charts.mpl import draw
from interp.interventions import Interventions, Place, Zero
from interp.zoo import known
from tests.analyses.undrawn import lay_out
from tests.covering import EXHAUSTIVE
from tests.interp.kinds import KINDS

TOKENS = [3, 1, 4, 1, 5]


@pytest.fixture(scope="module")
def model(make_model) -> HookedTransformer:
    return make_model(dtype="float64", **KINDS["gpt2"])


@pytest.fixture(scope="module")
def result(model: HookedTransformer) -> AnalysisResult:
    return run_analysis("information-flow", model, tokens=TOKENS, positions=[-1, 2], threshold=0.1)


@pytest.fixture(scope="module")
def importance(model: HookedTransformer):
    with torch.no_grad():
        names = proximity_hooks(model)
        _, cache = model.run_with_cache(torch.tensor([TOKENS]), names_filter=names)
    return stream_importance(cache), cache


def test_checks_hold_in_fp64_and_say_what_they_are(result: AnalysisResult) -> None:
    assert {each.name: each.tolerance for each in result.checks} == {
        "parts-sum-to-streams": 1e-10,
        "importances-sum-to-one": 1e-10,
        "flow-is-conserved": 1e-10,
        "threshold-0-keeps-all-that-flows": 1e-10,
        "records-agree": 1e-10,
    }
    assert result.passed


@pytest.mark.parametrize("name", ["llama", "gptj", "gpt-oss", "gemma2", "mixtral-post", "bert"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_checks_hold(name: str, dtype: str, make_model) -> None:
    model = make_model(**KINDS[name], dtype=dtype)
    result = run_analysis("information-flow", model, tokens=TOKENS)
    assert len(result.checks) == 5
    assert result.passed, result.checks


def test_nodes_and_edges_are_the_routes(result: AnalysisResult, importance) -> None:
    streams, _ = importance
    routes = trace_routes(streams, [4, 2], 0.1)
    nodes, edges = result.tables["nodes"], result.tables["edges"]
    assert len(nodes) == 5 * len(TOKENS)
    for column, expected in (
        ("flow", routes.flow), ("kept", routes.kept), ("on_route", routes.reached)
    ):  # fmt: skip
        table = nodes.pivot(index="level", columns="position", values=column)
        np.testing.assert_array_equal(table.to_numpy(), expected.numpy())
    assert nodes["token"].tolist() == [str(token) for token in TOKENS] * 5
    assert nodes.drop_duplicates("level")["stream"].tolist() == list(routes.labels)
    assert len(edges) == len(routes.edges) > 5
    for row, edge in zip(edges.to_dict("records"), routes.edges, strict=True):
        assert row["level"] == edge.level
        assert row["stream"] == routes.labels[edge.level]
        assert row["kind"].lower() == edge.kind
        assert (row["source"], row["destination"]) == (edge.source, edge.destination)
        assert row["source_token"] == str(TOKENS[edge.source])
        assert row["destination_token"] == str(TOKENS[edge.destination])
        assert (row["importance"], row["flow"]) == (edge.importance, edge.flow)
        if edge.kind == "attention":
            by_head = streams[edge.level - 1].heads[0, :, edge.destination, edge.source]
            assert row["head"] == f"L{row['layer']}H{int(by_head.argmax())}"
        else:
            assert row["head"] == ""


def test_heads_share_what_their_edge_has(result: AnalysisResult, importance) -> None:
    streams, cache = importance
    edges, heads = result.tables["edges"], result.tables["heads"]
    attention = edges[edges["kind"] == "attention"]
    assert len(attention)
    for edge in attention.to_dict("records"):
        mine = heads[
            (heads["layer"] == edge["layer"])
            & (heads["source"] == edge["source"])
            & (heads["destination"] == edge["destination"])
        ]
        assert mine["importance"].sum() == pytest.approx(edge["importance"], abs=1e-10)
        assert mine["flow"].sum() == pytest.approx(edge["flow"], abs=1e-10)
        for head in mine.to_dict("records"):
            number = int(head["head"].split("H")[1])
            place = (0, number, edge["destination"], edge["source"])
            assert head["attention"] == float(cache["pattern", edge["layer"]][place])
            assert head["importance"] == float(streams[edge["level"] - 1].heads[place])


def test_totals_of_heads_and_parts_of_streams(result: AnalysisResult, importance) -> None:
    streams, _ = importance
    nodes, parts = result.tables["nodes"], result.tables["parts"]
    totals = result.tables["head-totals"].set_index(["layer", "head"])["flow"]
    for layer, level in ((0, 1), (1, 3)):
        flow = nodes[nodes["level"] == level]["flow"].to_numpy()
        shares = parts[(parts["level"] == level) & (parts["part"] == "attention")]
        through = float(flow @ shares["importance"].to_numpy())
        assert totals[layer].sum() == pytest.approx(through, abs=1e-10)
        one = sum(
            float(share) * float(streams[level - 1].heads[0, 2, place].sum())
            for place, share in enumerate(flow)
        )
        assert totals[layer, 2] == pytest.approx(one, abs=1e-10)
    sums = parts.groupby(["level", "position"])["importance"].sum()
    np.testing.assert_allclose(sums, 1.0, atol=1e-10)
    assert set(parts["part"]) == {"residual", "attention", "MLP", "bias"}


def test_the_figures_are_drawn_from_the_tables(result: AnalysisResult) -> None:
    assert list(result.figures) == ["routes", "nodes", "tokens", "heads", "parts"]
    graph = result.figures["routes"]
    assert graph.title.startswith("Routes to positions 2 (“4”), 4 (“5”)")
    shown, edges = result.tables["graph"], result.tables["edges"]
    assert len(shown) == min(40, len(edges))
    assert shown["flow"].min() >= edges["flow"].nlargest(len(shown)).min()
    assert set(shown["to_level"] - shown["from_level"]) == {1}
    assert "4 5 1_post" in set(shown["to"])
    nodes = result.tables["nodes"]
    first = nodes[nodes["level"] == 0].nlargest(1, "flow").iloc[0]
    told = f"Of the tokens: {first['flow']:.0%} from {first['position']} (“{first['token']}”)"
    assert told in result.figures["nodes"].alt
    for chart in result.figures.values():
        (draw if EXHAUSTIVE else lay_out)(chart, result.tables[chart.table])


def test_without_an_edge_there_is_no_graph(model: HookedTransformer) -> None:
    result = run_analysis("information-flow", model, tokens=TOKENS, threshold=1.0)
    assert result.passed
    assert "routes" not in result.figures
    assert len(result.tables["edges"]) == len(result.tables["heads"]) == 0


def test_the_last_position_is_traced_unless_the_model_reads_the_first(
    model: HookedTransformer, make_model
) -> None:
    def traced(of: HookedTransformer) -> list[int]:
        nodes = run_analysis("information-flow", of, tokens=TOKENS).tables["nodes"]
        top = nodes[nodes["level"] == nodes["level"].max()]
        return top[top["flow"] > 0]["position"].tolist()

    assert traced(model) == [4]
    classifier = make_model(dtype="float64", **KINDS["classifier"])
    assert traced(classifier) == [0]
    assert "predictions" not in run_analysis("information-flow", classifier, tokens=TOKENS).tables


def test_induction_goes_from_the_copy_over_the_previous_token_head() -> None:
    truth = known.induction(saturated=True)
    tokens = truth.clean[0].tolist()
    heads = run_analysis("information-flow", truth.model, tokens=tokens).tables["heads"]
    copied = tokens.index(tokens[-1]) + 1
    into_end = heads[(heads["layer"] == 1) & (heads["destination"] == len(tokens) - 1)]
    from_copy = into_end[into_end["source"] == copied]
    assert from_copy["head"].tolist() == ["L1H1"]
    below = heads[(heads["layer"] == 0) & (heads["destination"] == copied)]
    assert "L0H0" in below[below["source"] == copied - 1]["head"].tolist()


def test_interventions_are_seen(model: HookedTransformer) -> None:
    plan = Interventions([Zero(Place("z", layers=0, heads=1)), Zero(Place("mlp_out", layers=1))])
    result = run_analysis("information-flow", model, interventions=plan, tokens=TOKENS, threshold=0)
    assert result.passed
    assert "parts-sum-to-streams" not in {each.name for each in result.checks}
    assert not (result.tables["heads"]["head"] == "L0H1").any()
    parts = result.tables["parts"]
    assert parts[(parts["part"] == "MLP") & (parts["layer"] == 1)]["importance"].max() == 0
    assert parts[parts["part"] == "edit"]["importance"].max() < 1e-10


def test_what_does_not_fit_is_refused(model: HookedTransformer, make_model) -> None:
    with pytest.raises(InputError, match=r"max_tokens allows 4 tokens\. Received 5"):
        run_analysis("information-flow", model, tokens=TOKENS, max_tokens=4)
    with pytest.raises(InputError, match="position must lie"):
        run_analysis("information-flow", model, tokens=TOKENS, positions=[5])
    with pytest.raises(InputError, match="'positions'"):
        run_analysis("information-flow", model, tokens=TOKENS, positions=[])
    with pytest.raises(InputError, match="it reads two sequences"):
        run_analysis("information-flow", make_model(**KINDS["t5"]), tokens=TOKENS)
