from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.lens import TunedLens, component_lens, logit_lens, stream_hooks
from interp.lens.logit_lens import final_stream
from interp.zoo import known
from tests.interp.kinds import KINDS, given_to, with_padding

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]
# Every kind of final norm and none, soft cap, logit scale, the head of a masked-language model,
# streams that are normed or have no middle, and decoders; each once with padding or without.
READ = {
    "gpt2": False, "gpt2-folded": True, "gemma2": True, "stablelm2": False, "no-norm": True,
    "mixtral-post": True, "bert": True, "bert-folded-mlm": False, "dynamic": False, "t5": True,
    "heads-only-translator": False,
}  # fmt: skip
TARGET = 3


def _as_if_last(model: HookedTransformer, given: dict[str, Tensor], name: str) -> Tensor:
    """The model's logits in a run whose last stream is replaced by what this hook carried."""
    with torch.no_grad():
        _, cache = model.run_with_cache(**given, names_filter=name)
        hooks = [(final_stream(model), lambda x, hook: cache[name])]
        return model.run_with_hooks(**given, fwd_hooks=hooks)


def _restated(logits: Tensor, final: Tensor, target: int) -> dict[str, Tensor]:
    """What the lens reports, one position after the other, from probabilities."""
    found: dict[str, list[float]] = {}
    for row, (q, p) in enumerate(
        zip(logits.flatten(0, 1).softmax(-1), final.flatten(0, 1).softmax(-1), strict=True)
    ):
        mine = logits.flatten(0, 1)[row]
        best = int(p.argmax())
        numbers = {
            "entropy": -sum(float(x) * float(x.log()) for x in q if x > 0),
            "kl": sum(float(a) * float((a / b).log()) for a, b in zip(p, q, strict=True) if a > 0),
            "final_probability": float(q[best]),
            "target_probability": float(q[target]),
            "target_rank": sum(float(x) > float(mine[target]) for x in mine),
            "target_logit": float(mine[target]),
        }
        for name, x in numbers.items():
            found.setdefault(name, []).append(x)
    return {
        k: torch.tensor(v, dtype=torch.float64).view(logits.shape[:2]) for k, v in found.items()
    }


@pytest.mark.parametrize(("name", "padded"), READ.items())
def test_streams_are_read_as_the_last_one_is(
    name: str, padded: bool, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """Every number, against runs in which that stream is put in the last one's place."""
    model = make_model(dtype="float64", **KINDS[name])
    given = given_to(model)
    real = torch.ones_like(given.get("decoder_input", given["input"])).bool()
    if padded:
        given = with_padding(given, [2, 0, 1], left=True)
        real = given.get("decoder_attention_mask", given["attention_mask"]).bool()
    with torch.no_grad():
        final = model(**given)
    found = logit_lens(model, **given, targets=TARGET, incl_mid=True, keep_logits=True, top_k=4)
    assert found.hooks == stream_hooks(model, incl_mid=True)
    assert found.labels[-1] == "final_post" and found.labels[0] == "0_pre"
    assert (found.real is None) == bool(real.all())
    for i, hook in enumerate(found.hooks):
        expected = _as_if_last(model, given, hook)
        assert_close(found.logits[i][real], expected[real], hook)
        numbers = _restated(expected, final, TARGET)
        for what, number in numbers.items():
            assert_close(getattr(found, what)[i].double()[real], number[real], f"{hook} {what}")
        top = expected.softmax(-1).topk(4)
        assert torch.equal(found.top_tokens[i][real], top.indices[real])
        assert_close(found.top_probabilities[i][real], top.values[real])
    assert torch.equal(found.final_token[real], final.argmax(-1)[real])
    assert_close(found.kl[-1][real], torch.zeros_like(found.kl[-1][real]))


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("gpt2", ["0_pre", "0_mid", "1_pre", "1_mid", "final_post"]),
        ("neox", ["0_pre", "1_pre", "final_post"]),  # parallel: nothing between
        ("t5", ["0_pre", "0_mid", "0_mid_cross", "final_post"]),
    ],
)
def test_streams_have_names(name: str, labels: list[str], make_model: MakeModel) -> None:
    model = make_model(**KINDS[name])
    assert logit_lens(model, **given_to(model), incl_mid=True).labels == labels


@pytest.mark.parametrize("max_bytes", [1, 3000, 20_000])
def test_pieces_change_nothing(
    max_bytes: int, make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(dtype="float64")
    given = given_to(model)
    whole = logit_lens(model, **given, targets=TARGET, keep_logits=True)
    found = logit_lens(model, **given, targets=TARGET, keep_logits=True, max_bytes=max_bytes)
    for name in ("logits", "kl", "entropy", "top_probabilities", "target_logit"):
        assert_close(getattr(found, name), getattr(whole, name), name)
    assert torch.equal(found.target_rank, whole.target_rank)
    assert logit_lens(model, **given).logits is None


def test_positions_and_targets(make_model: MakeModel, assert_close: AssertClose) -> None:
    """A choice of positions is a choice of columns; targets of any form are the tokens' own."""
    model = make_model(dtype="float64")
    tokens = given_to(model)["input"]
    whole = logit_lens(model, tokens, keep_logits=True)
    by_place = torch.arange(10).view(1, 5, 2).repeat(3, 1, 1) + torch.arange(3).view(3, 1, 1)
    for targets in (torch.tensor([3, 9, 1]), tokens, by_place):
        found = logit_lens(model, tokens, targets)
        index = targets if targets.ndim == 3 else targets.view(3, -1, 1).expand(-1, 5, -1)
        expected = whole.logits.gather(-1, index.expand(3, -1, -1, -1))
        expected = expected if targets.ndim == 3 else expected[..., 0]
        assert_close(found.target_logit, expected)
    for pos_slice, places in ((-1, [4]), ([0, 2], [0, 2]), ((1, None), [1, 2, 3, 4])):
        found = logit_lens(model, tokens, TARGET, pos_slice=pos_slice)
        assert found.positions.tolist() == places
        assert_close(found.kl, whole.kl[:, :, places])


def test_rows_do_not_see_each_other(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64")
    given = with_padding(given_to(model), [0, 2, 0], left=False)
    found = logit_lens(model, **given, targets=TARGET)
    alone = logit_lens(model, given["input"][1:2, :3], targets=TARGET)
    assert_close(found.kl[:, 1:2, :3], alone.kl)
    assert_close(found.entropy[:, 1:2, :3], alone.entropy)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "neox", "no-norm"])
def test_final_scale_is_the_decompositions(
    name: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """With the last stream's scale for all, what is read is `accumulated_resid(apply_ln=True)`."""
    model = make_model(dtype="float64", **KINDS[name])
    tokens = given_to(model)["input"]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        streams = cache.accumulated_resid(apply_ln=True)
        bias = getattr(model.ln_final, "b", None)
        expected = (streams if bias is None else streams + bias) @ model.W_U * model.cfg.logit_scale
        expected = expected + model.b_U
        if model.cfg.output_logits_soft_cap > 0:
            expected = model.cfg.output_logits_soft_cap * torch.tanh(
                expected / model.cfg.output_logits_soft_cap
            )
    found = logit_lens(model, tokens, scale="final", keep_logits=True)
    assert_close(found.logits, expected)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bloom", "mixtral-post", "t5"])
@pytest.mark.parametrize("by", ["layer", "head"])
def test_components_add_up_to_the_logits(
    name: str, by: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """All values of all components sum to the logits less their mean and less the constants."""
    model = make_model(dtype="float64", **{**KINDS[name], "output_logits_soft_cap": -1.0})
    with torch.no_grad():
        logits, cache = model.run_with_cache(**given_to(model))
    n = model.cfg.d_vocab_out
    found = component_lens(cache, TARGET, by=by, top_k=n)
    values = torch.zeros(*found.top_values.shape[:3], n, dtype=torch.float64)
    values.scatter_(-1, found.top_tokens, found.top_values)
    bias = getattr(model.main_stack.ln_final, "b", None)
    constant = model.b_U if bias is None else model.b_U + bias @ model.W_U * model.cfg.logit_scale
    expected = logits - constant
    assert_close(values.sum(0), (expected - expected.mean(-1, keepdim=True)).detach())
    assert_close(found.target_values, values[..., TARGET])
    assert torch.equal(found.top_tokens.flip(-1), found.bottom_tokens)
    assert len(found.labels) == len(values)


def test_component_lens_refuses(make_model: MakeModel) -> None:
    model = make_model()
    _, cache = model.run_with_cache(given_to(model)["input"])
    for rule, arguments in {
        "target must lie in 0 … 30": {"target": 31},
        "target must be a whole number": {"target": "Lily"},
        "by must be one of": {"by": "neuron"},
        "max_bytes": {"max_bytes": 0},
        "keep the axis": {"pos_slice": 3},
    }.items():
        with pytest.raises(InputError, match=rule):
            component_lens(cache, **arguments)


def test_other_hooks(make_model: MakeModel, assert_close: AssertClose) -> None:
    """Any vector of the stream may be read; `final_post` stays the last."""
    model = make_model(dtype="float64")
    given = given_to(model)
    found = logit_lens(model, **given, hooks="blocks.*.hook_mlp_out", keep_logits=True)
    assert found.hooks == ["blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out", final_stream(model)]
    assert_close(found.logits[0], _as_if_last(model, given, found.hooks[0]))


def test_known_models_say_their_answer_where_they_write_it(assert_close: AssertClose) -> None:
    """The second layer of the induction circuit writes the answer: no stream before it has it."""
    truth = known.induction()
    found = logit_lens(truth.model, truth.clean, truth.right, keep_logits=True)
    at = truth.position
    assert_close(found.logits[-1, :, at], truth.logits)
    assert (found.target_rank[-1, :, at] == 0).all()
    before = found.labels.index("1_pre")
    assert (found.target_probability[: before + 1, :, at] < 0.5).all()


def test_edits_of_blocks_act(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64")
    tokens = given_to(model)["input"]
    with model.hooks([("blocks.0.hook_mlp_out", lambda x, hook: x * 0)]), torch.no_grad():
        found = logit_lens(model, tokens, keep_logits=True)
        assert_close(found.logits[-1], model(tokens))


def test_bad_input(make_model: MakeModel) -> None:
    model = make_model()
    tokens = given_to(model)["input"]
    for rule, arguments in {
        "targets must lie in 0 … 30": {"targets": 31},
        "targets must be whole numbers": {"targets": torch.zeros(2, dtype=torch.long)},
        "Received 'Lily'": {"targets": "Lily"},
        "top_k must not exceed": {"top_k": 32},
        "scale must be one of": {"scale": "both"},
        "vectors of the residual stream": {"hooks": "blocks.0.attn.hook_z"},
        "hooks of the blocks": {"hooks": "ln_final.hook_normalized"},
        "only attention_mask": {"stop_at_layer": 1},
        "no meaning beside": {"hooks": "blocks.0.hook_mlp_out", "incl_mid": True},
        "own scale": {"tuned": TunedLens(model), "incl_mid": True},
    }.items():
        with pytest.raises(InputError, match=rule):
            logit_lens(model, tokens, **arguments)
    with pytest.raises(InputError, match="head='classification'"):
        classifier = make_model(**KINDS["classifier"])
        logit_lens(classifier, tokens)
    with (
        model.hooks([("unembed.hook_in", lambda x, hook: x)]),
        pytest.raises(InputError, match=r"attached to unembed\.hook_in"),
    ):
        logit_lens(model, tokens)


def test_model_without_blocks(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(n_layers=0, dtype="float64")
    tokens = given_to(model)["input"]
    found = logit_lens(model, tokens, keep_logits=True)
    assert found.labels == ["final_post"]
    assert_close(found.logits[0], model(tokens).detach())


@pytest.mark.parametrize("family", ["hf_gpt2", "hf_llama"])
def test_beside_transformer_lens(
    family: str, request: pytest.FixtureRequest, assert_close: AssertClose
) -> None:
    """Its `logit_lens` on the same weights: values, entropies and ranks."""
    pytest.importorskip("transformer_lens", reason="needs the extra 'lens'")
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
    from transformer_lens.tools.analysis import logit_lens as theirs

    hf_model = request.getfixturevalue(family)()
    model = HookedTransformer.from_hf(hf_model)
    tokens = torch.randint(37, (2, 7), generator=torch.Generator().manual_seed(0))
    found = logit_lens(model, tokens, targets=5, incl_mid=True, keep_logits=True, top_k=3)
    bridge = build_bridge_from_module(hf_model, type(hf_model).__name__, hf_config=hf_model.config)
    bridge.eval()
    expected = theirs(
        bridge, tokens, targets=5, incl_mid=True, positions=None, return_type="logits"
    )
    assert found.labels == expected.labels
    assert_close(found.target_logit, expected.values[..., 0], tolerance=1e-4)
    assert_close(found.entropy, expected.readout.entropy, tolerance=1e-4)
    assert torch.equal(found.target_rank, expected.rank_trajectory())
