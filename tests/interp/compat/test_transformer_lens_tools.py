"""TransformerLens 4's own tools on our model, beside the same tools on its bridge."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, load_model
from interp.compat.transformer_lens import adopt
from tests.covering import covering, every_nth

lens = pytest.importorskip("transformer_lens", reason="needs the extra 'lens'")

AssertClose = Callable[..., None]

PATCHING = [
    "resid_pre", "resid_mid", "attn_out", "mlp_out", "block_every",
    "attn_head_out_by_pos", "attn_head_out_all_pos", "attn_head_q_by_pos", "attn_head_q_all_pos",
    "attn_head_k_by_pos", "attn_head_k_all_pos", "attn_head_v_by_pos", "attn_head_v_all_pos",
    "attn_head_pattern_by_pos", "attn_head_pattern_all_pos", "attn_head_pattern_dest_src_pos",
    "attn_head_all_pos_every", "attn_head_by_pos_every",
]  # fmt: skip
DIRECT = ["direct_path", "direct_path_all_sources"]


class Pair(NamedTuple):
    """The same weights twice: in interp, in a bridge."""

    ours: HookedTransformer
    theirs: Any

    def each(self, tool: Callable[[Any], Any]) -> tuple[Any, Any]:
        """What a tool gives on both."""
        return tool(self.ours), tool(self.theirs)

    @property
    def place(self) -> int:
        """0 … 3: which of the four pairs it is."""
        cfg = self.ours.cfg
        return 2 * int(cfg.groups_queries) + bool(cfg.weight_processing)


@pytest.fixture(
    scope="module", params=["gpt2-raw", "gpt2-processed", "llama-raw", "llama-processed"]
)
def pair(request: pytest.FixtureRequest, make_bridge: Any, symbols: Any) -> Pair:
    family, mode = request.param.split("-")
    hf_model = request.getfixturevalue(f"hf_{family}")(vocab_size=len(symbols))
    model = HookedTransformer.from_hf(hf_model, symbols)
    model = model.process_weights() if mode == "processed" else model
    return Pair(model, make_bridge(hf_model, mode, symbols))


def _tokens(seed: int) -> Tensor:
    return torch.randint(1, 37, (2, 5), generator=torch.Generator().manual_seed(seed))


CLEAN, CORRUPTED = _tokens(0), _tokens(1)


def _metric(logits: Tensor) -> Tensor:
    return (logits[:, -1, 3] - logits[:, -1, 8]).mean()


@torch.no_grad()
def _cache(model: Any, tokens: Tensor = CLEAN) -> Any:
    """A cache of theirs, from what the model itself recorded."""
    return lens.ActivationCache(dict(model.run_with_cache(tokens)[1].items()), model)


# --- what they ask for ---------------------------------------------------------------------------


def test_protocols(pair: Pair) -> None:
    from transformer_lens import model_protocol

    assert isinstance(pair.ours, model_protocol.TransformerLensModel)
    assert isinstance(pair.ours, model_protocol.TransformerLensModelWithWeights)
    assert isinstance(pair.ours, model_protocol.TrainableTransformerLensModel)
    for member in ("cfg", "run_with_cache", "run_with_hooks", "to_tokens"):
        inspect.getattr_static(pair.ours, member)  # as Python 3.12 looks for them


def test_loaded_models_are_in_eval_mode(hf_gpt2: Any) -> None:
    """Their tools refuse others."""
    assert not HookedTransformer.from_hf(hf_gpt2()).training


def test_weights_by_name(pair: Pair, assert_close: AssertClose) -> None:
    """Grouped keys and values are given one per query head, in both."""
    ours, theirs = pair.each(lambda model: model.tl_parameters())
    folded = str(pair.ours.cfg.normalization_type).endswith("Pre")
    ones = {name for name in theirs if folded and name.split(".")[-2].startswith("ln")}
    assert set(theirs) - ones == set(ours)
    for name, weight in ours.items():
        assert_close(weight, theirs[name], name)


def test_tied_unembedding_is_among_the_weights(make_model: Any) -> None:
    model = make_model(tie_word_embeddings=True)
    assert torch.equal(model.tl_parameters()["unembed.W_U"], model.W_E.T)


# --- patching ------------------------------------------------------------------------------------


def test_no_patching_tool_is_left_out() -> None:
    found = {n for n in dir(lens.patching) if n.startswith("get_act_patch_")}
    assert found == {f"get_act_patch_{name}" for name in [*PATCHING, *DIRECT]}


def test_patching(pair: Pair, assert_close: AssertClose) -> None:
    """Our own cache as it is, not wrapped. Every tool on one of the pairs: `test_helper` has both
    families."""
    clean, corrupted = CLEAN[:, :3], CORRUPTED[:, :3]  # a run for each position, or two of them
    caches = dict(zip(pair, pair.each(lambda model: model.run_with_cache(clean)[1]), strict=True))
    for name in every_nth(PATCHING, 4, pair.place):
        tool = getattr(lens.patching, f"get_act_patch_{name}")
        with torch.no_grad():
            ours, theirs = pair.each(
                lambda model: tool(model, corrupted, caches[model], _metric)  # noqa: B023
            )
        assert_close(ours, theirs, name)
        assert ours.std() > 1e-3, name  # patches do something


def test_patching_row_by_row(pair: Pair, assert_close: AssertClose) -> None:
    def rows(model: Any) -> Any:
        with torch.no_grad():
            return lens.patching.get_act_patch_resid_mid(
                model, CORRUPTED, _cache(model),
                {"third": lambda logits: logits[:, -1, 3], "eighth": lambda x: x[:, -1, 8]},
                reduce="none", baseline=True,
            )  # fmt: skip

    ours, theirs = pair.each(rows)
    assert_close(ours.values, theirs.values)
    assert_close(ours.baseline, theirs.baseline)


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_direct_paths(pair: Pair, component: str, assert_close: AssertClose) -> None:
    """They hook `blocks.1.attn.hook_q_input`, which is `blocks.1.hook_q_input` here."""

    def paths(model: Any) -> Tensor:
        with torch.no_grad():
            return lens.patching.get_act_patch_direct_path_all_sources(
                model, CORRUPTED, _cache(model), _cache(model, CORRUPTED), _metric,
                component=component, verbose=False,
            )  # fmt: skip

    if component != "q" and pair.ours.cfg.groups_queries:
        for model in pair:
            with pytest.raises(ValueError, match="GQA"):
                paths(model)
        return
    ours, theirs = pair.each(paths)
    assert_close(ours, theirs)
    assert ours[0, :, 1].std() > 1e-3


# --- head_detector -------------------------------------------------------------------------------

TEXT = "q f B q f B c q"


KINDS_OF_HEADS = ("previous_token_head", "duplicate_token_head", "induction_head")
OPTIONS: list[dict[str, Any]] = [{}, {"exclude_bos": True}, {"heads": [(0, 1), (1, 2)]}]


@pytest.mark.parametrize("measure", ["mul", "abs"])
@pytest.mark.parametrize("kind", KINDS_OF_HEADS)
def test_detected_heads(pair: Pair, kind: str, measure: str, assert_close: AssertClose) -> None:
    detect = lens.head_detector.detect_head
    for options in every_nth(OPTIONS, 3, KINDS_OF_HEADS.index(kind) + pair.place):
        ours, theirs = pair.each(
            lambda model: detect(model, TEXT, kind, error_measure=measure, **options)  # noqa: B023
        )
        # "abs" scores are rounded to 3 places, and may be on either side
        assert_close(ours, theirs, f"{options}", 1.1e-3 if measure == "abs" else -1.0)
    ours, theirs = pair.each(
        lambda model: detect(model, [TEXT, "a b a b"], kind, error_measure=measure)
    )
    assert_close(ours, theirs, "several texts", 1.1e-3 if measure == "abs" else -1.0)


def test_detector_finds_the_heads_of_the_induction_model() -> None:
    """The zoo's model has both, and they score highest."""
    model = load_model("zoo:induction", device="cpu")
    text = "qfB7xqfB7x"
    scores = lens.head_detector.detect_head(model, text, "induction_head", exclude_bos=True)
    previous = lens.head_detector.detect_head(model, text, "previous_token_head", exclude_bos=True)
    assert int(scores.argmax()) // model.cfg.n_heads == 1
    assert int(previous.argmax()) // model.cfg.n_heads == 0


# --- SVDInterpreter ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "layer"),
    covering([("OV", 0), ("OV", 2), ("w_in", None), ("w_out", None)], [0, 1], strength=1),
)
def test_singular_vectors(
    pair: Pair, of: tuple[str, int | None], layer: int, assert_close: AssertClose
) -> None:
    """Up to sign, which nothing decides. Weights are equal to the last bit: near-equal singular
    values make vectors sensitive.
    """
    kind, head = of
    ours, theirs = Pair(adopt(pair.theirs), pair.theirs).each(
        lambda model: lens.SVDInterpreter(model).get_singular_vectors(
            kind, layer_index=layer, num_vectors=4, head_index=head
        )
    )
    signs = (ours * theirs).sum((0, 1)).sign()
    assert_close(ours * signs, theirs)


# --- ActivationCache -----------------------------------------------------------------------------

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("accumulated_resid", {"incl_mid": True}),
    ("accumulated_resid", {"apply_ln": True}),
    ("accumulated_resid", {"layer": 1, "mlp_input": True, "apply_ln": True, "pos_slice": -1}),
    ("decompose_resid", {}),
    ("decompose_resid", {"layer": 1, "mode": "attn", "apply_ln": True}),
    ("decompose_resid", {"layer": 1, "mlp_input": True, "incl_embeds": False}),
    ("stack_head_results", {"incl_remainder": True}),
    ("stack_head_results", {"layer": 1, "apply_ln": True, "pos_slice": (1, 4)}),
    ("stack_neuron_results", {"layer": 2, "neuron_slice": (0, 5), "incl_remainder": True}),
    ("stack_neuron_results", {"layer": 1, "apply_ln": True, "pos_slice": -1}),
    ("get_full_resid_decomposition", {"apply_ln": True}),
    ("get_full_resid_decomposition", {"layer": 1, "mlp_input": True}),
    ("get_full_resid_decomposition", {"expand_neurons": False, "pos_slice": [0, 3]}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "options"), CALLS)
def test_their_cache(
    pair: Pair, method: str, options: dict[str, Any], assert_close: AssertClose
) -> None:
    """Their class on our records."""
    ours, theirs = pair.each(
        lambda model: getattr(_cache(model), method)(**options, return_labels=True)
    )
    assert list(ours[1]) == list(theirs[1])
    assert_close(ours[0], theirs[0])


def test_their_cache_is_sliced_and_stacked(pair: Pair, assert_close: AssertClose) -> None:
    def found(model: Any) -> list[Tensor]:
        cache = _cache(model)
        cache.compute_head_results()
        one = cache.apply_slice_to_batch_dim((0, 1)).remove_batch_dim()
        return [
            cache["result", -1],
            cache.stack_activation("pattern"),
            one["resid_post", 1],
            one.stack_head_results(apply_ln=True),
            cache.get_neuron_results(1, neuron_slice=3, pos_slice=-1),
        ]

    for ours, theirs in zip(*pair.each(found), strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("q", None), ("q", "f"), (torch.tensor([3, 5]), torch.tensor([8, 1])), (CLEAN, CORRUPTED)],
)
def test_logit_attributions(pair: Pair, right: Any, wrong: Any, assert_close: AssertClose) -> None:
    def attributions(model: Any) -> Tensor:
        cache = _cache(model)
        return cache.logit_attrs(cache.decompose_resid(), right, wrong)

    ours, theirs = pair.each(attributions)
    assert_close(ours, theirs)


def test_logit_lens(pair: Pair, assert_close: AssertClose) -> None:
    """From their cache, and run on the model itself, with our cache in between."""
    ours, theirs = pair.each(lambda model: _cache(model).logit_lens(incl_mid=True, positions=None))
    assert ours.labels == theirs.labels
    assert_close(ours.values, theirs.values)
    from transformer_lens.tools.analysis import logit_lens

    ours, theirs = pair.each(lambda model: logit_lens(model, CLEAN, targets=["q", "f"]))
    assert_close(ours.values, theirs.values)
    assert torch.equal(ours.rank_trajectory("q"), theirs.rank_trajectory("q"))


# --- what interp does with their names and slices ------------------------------------------------


def test_their_names_of_split_inputs(make_model: Any) -> None:
    model = make_model()
    name = "blocks.1.attn.hook_q_input"
    _, cache = model.run_with_cache(CLEAN % 31, names_filter=[name, "blocks.*.attn.hook_attn_in"])
    assert list(cache) == [
        "blocks.0.hook_attn_in", "blocks.1.hook_attn_in", "blocks.1.hook_q_input"
    ]  # fmt: skip
    assert cache[name] is cache["blocks.1.hook_q_input"]
    assert name in cache


@pytest.mark.parametrize("chosen", [None, -1, (0, 3), [0, 2]])
def test_their_slices(make_model: Any, chosen: Any) -> None:
    _, cache = make_model().run_with_cache(CLEAN % 31)
    theirs = lens.utilities.Slice(chosen)
    assert torch.equal(
        cache.decompose_resid(pos_slice=theirs), cache.decompose_resid(pos_slice=chosen)
    )


def test_recomputed_norm(make_model: Any, assert_close: AssertClose) -> None:
    """Each stream normalised by itself, the final norm's bias included: the logit lens."""
    model = make_model()
    logits, cache = model.run_with_cache(CLEAN % 31)
    lensed = cache.apply_ln_to_stack(cache.accumulated_resid(), recompute_ln=True)
    assert_close(model.unembed(lensed[-1]), logits)


def test_adopted_model_is_the_bridge_to_their_tools(pair: Pair, assert_close: AssertClose) -> None:
    """There and back."""
    back = adopt(pair.theirs)
    with torch.no_grad():
        found = lens.patching.get_act_patch_resid_pre(back, CORRUPTED, _cache(back), _metric)
        expected = lens.patching.get_act_patch_resid_pre(
            pair.theirs, CORRUPTED, _cache(pair.theirs), _metric
        )
    assert_close(found, expected)
