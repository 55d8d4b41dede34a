"""TransformerLens 4's bridges in interp: adopted by analyses, their caches read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from analyses import run_analysis
from interp import HookedTransformer, InputError
from interp.compat.transformer_lens import adopt, is_bridge, read_cache
from tests.covering import covering

lens = pytest.importorskip("transformer_lens", reason="needs the extra 'lens'")

AssertClose = Callable[..., None]

MODELS: dict[tuple[str, str], dict[str, Any]] = {
    ("gpt2", "usual"): {},
    ("gpt2", "other"): {"tie_word_embeddings": False, "n_layer": 3},
    ("llama", "usual"): {},
    ("llama", "other"): {"num_key_value_heads": 1, "tie_word_embeddings": True},
}
CASES = covering(("gpt2", "llama"), ("usual", "other"), ("plain", "raw", "processed"))


@pytest.fixture(scope="module", params=CASES, ids=lambda p: "-".join(p))
def bridge(request: pytest.FixtureRequest, make_bridge: Any, symbols: Any) -> Any:
    family, shape, mode = request.param
    fields = MODELS[family, shape]
    hf_model = request.getfixturevalue(f"hf_{family}")(vocab_size=len(symbols) + 3, **fields)
    return make_bridge(hf_model, mode, symbols)


def _tokens(rows: int = 2) -> Tensor:
    return torch.randint(1, 37, (rows, 9), generator=torch.Generator().manual_seed(0))


# --- adopt ---------------------------------------------------------------------------------------


def test_adopted(bridge: Any, assert_close: AssertClose) -> None:
    """The bridge's weights bit for bit, its logits, its tokens; and the bridge stays as it was."""
    before = {name: weight.clone() for name, weight in bridge.tl_parameters().items()}
    model = adopt(bridge)
    assert isinstance(model, HookedTransformer)
    assert not model.training
    assert bool(model.cfg.weight_processing) == bridge._weights_processed
    given = model.tl_parameters()
    assert set(given) == set(before)
    for name, weight in bridge.tl_parameters().items():
        assert torch.equal(weight, before[name]), name
        assert torch.equal(weight, given[name]), name
    with torch.no_grad():
        assert_close(model(_tokens()), bridge(_tokens()))
        for text in ("q f B 7 x", ["q f", "B 7 x"]):
            assert torch.equal(model.to_tokens(text), bridge.to_tokens(text))
        assert_close(model("q f B 7 x"), bridge("q f B 7 x"))


def test_adopted_weights_are_copies(bridge: Any) -> None:
    model = adopt(bridge)
    before = bridge.W_E.clone()
    with torch.no_grad():
        model.W_E.zero_()
    assert torch.equal(bridge.W_E, before)


def test_adopted_model_may_be_processed(bridge: Any, assert_close: AssertClose) -> None:
    """Also where TransformerLens has done so already."""
    model = adopt(bridge)
    with torch.no_grad():
        found, expected = (m(_tokens()).log_softmax(-1) for m in (model.process_weights(), model))
    assert_close(found, expected)


def test_hooked_bridge_is_refused(make_bridge: Any, hf_gpt2: Any) -> None:
    """What it computes is not what its weights say."""
    bridge = make_bridge(hf_gpt2())
    bridge.add_hook("blocks.0.hook_mlp_out", lambda x, hook: x * 0)
    with pytest.raises(InputError, match="hooks"):
        adopt(bridge)
    bridge.reset_hooks()
    adopt(bridge)


def test_weights_that_are_not_given_back(
    make_bridge: Any, hf_llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = make_bridge(hf_llama(), "processed")
    given = bridge.tl_parameters()
    del given["blocks.1.mlp.W_gate"]
    monkeypatch.setattr(type(bridge), "tl_parameters", lambda self: given)
    with pytest.raises(InputError, match=r"give blocks\.1\.mlp\.W_gate back"):
        adopt(bridge)


def test_what_is_no_bridge(hf_gpt2: Any, make_model: Any, make_bridge: Any) -> None:
    for other in (hf_gpt2(), make_model(), None, nn.Identity()):
        assert not is_bridge(other)
        with pytest.raises(InputError, match="TransformerBridge"):
            adopt(other)
    assert is_bridge(make_bridge(hf_gpt2()))


def test_bridge_of_another_kind_of_model(make_bridge: Any) -> None:
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    cfg = TransformerBridgeConfig(
        n_layers=1, d_model=8, n_ctx=5, d_head=4, n_heads=2, d_mlp=6, d_vocab=7, act_fn="gelu",
        normalization_type="LN", device="cpu",
    )  # fmt: skip
    with pytest.raises(InputError, match="Hugging Face"):
        adopt(TransformerBridge.boot_native(cfg))


# --- analyses ------------------------------------------------------------------------------------


def test_analysis_of_a_bridge(bridge: Any) -> None:
    """As of the same model opened by interp."""
    found = run_analysis("head-attribution", bridge, prompt="q f B 7 q f")
    assert all(check.passed for check in found.checks)
    expected = run_analysis("head-attribution", adopt(bridge), prompt="q f B 7 q f")
    changing = {"seconds", "created"}
    assert found.provenance.model_dump(exclude=changing) == expected.provenance.model_dump(
        exclude=changing
    )
    for name, table in expected.tables.items():
        pd.testing.assert_frame_equal(found.tables[name], table)


# --- read_cache ----------------------------------------------------------------------------------


@pytest.fixture
def caches(bridge: Any) -> tuple[Any, Any]:
    """Theirs, and what we read of it."""
    with torch.no_grad():
        theirs = bridge.run_with_cache(_tokens())[1]
    return theirs, read_cache(theirs)


def test_names_and_values(caches: tuple[Any, Any], assert_close: AssertClose) -> None:
    """All that interp records by default is there, the tensors shared, and as interp records it."""
    theirs, read = caches
    model = read.model
    with torch.no_grad():
        ours = model.run_with_cache(_tokens())[1]
    assert set(read) == set(ours)
    for name, tensor in read.items():
        assert tensor.data_ptr() == theirs[name].data_ptr(), name
        expected = ours[name]
        if name.endswith("attn_scores"):
            past = expected.isfinite()
            assert (tensor[~past] <= torch.finfo(tensor.dtype).min).all()
            tensor, expected = tensor[past], expected[past]
        assert_close(tensor, expected, name)
    assert read["pattern", 0] is theirs["blocks.0.attn.hook_pattern"]
    assert read["resid_post", -1] is theirs["resid_post", -1]


def test_decompositions_of_a_read_cache(
    bridge: Any, caches: tuple[Any, Any], assert_close: AssertClose
) -> None:
    _, read = caches
    stream = read["resid_post", -1]
    for parts in (
        read.decompose_resid(),
        read.stack_head_results(incl_remainder=True),
        read.get_full_resid_decomposition(),
    ):
        assert_close(parts.sum(0), stream)
    token = torch.tensor([3, 5])
    constant = read.model.b_U[token]
    bias = getattr(read.model.ln_final, "b", None)
    if bias is not None:
        constant = constant + bias @ read.model.W_U[:, token]
    whole = read.logit_attrs(read.decompose_resid(pos_slice=-1), token, pos_slice=-1).sum(0)
    with torch.no_grad():
        assert_close(whole + constant, bridge(_tokens())[[0, 1], -1, token])


def test_names_of_modules(bridge: Any) -> None:
    """Recorded under names that only TransformerLens 4 has."""
    asked = {"blocks.1.hook_out": "resid_post1", "blocks.0.attn.o.hook_in": "z0"}
    with torch.no_grad():
        cache = bridge.run_with_cache(_tokens(), names_filter=list(asked))[1]
    for their_name in asked:  # what is here beside it under the usual name is taken away
        for name in list(cache.cache_dict):
            if name not in asked:
                del cache.cache_dict[name]
        assert their_name in cache.cache_dict
    read = read_cache(cache)
    assert len(read) == 2
    for their_name, name in asked.items():
        assert read[name] is cache.cache_dict[their_name]


def test_split_inputs_results_and_no_batch(make_bridge: Any, hf_gpt2: Any) -> None:
    bridge = make_bridge(hf_gpt2())
    model = adopt(bridge)
    bridge.set_use_attn_result(True)
    bridge.set_use_split_qkv_input(True)
    with torch.no_grad():
        theirs = bridge.run_with_cache(_tokens(1), remove_batch_dim=True)[1]
    read = read_cache(theirs, model)
    assert read.model is model
    assert not read.has_batch_dim
    assert read["result", 1].shape == (9, 3, 24)
    assert read["blocks.0.hook_k_input"].shape == (9, 3, 24)
    assert read.decompose_resid(apply_ln=True).shape == (6, 9, 24)


def test_other_tensors_of_the_same_name_are_left_out(make_bridge: Any, hf_gpt2: Any) -> None:
    """Here from block 1's MLP on; of post-norm models attn_out is another tensor in a bridge."""
    bridge = make_bridge(hf_gpt2())
    model = adopt(bridge)
    bridge.add_hook("blocks.1.hook_mlp_out", lambda x, hook: x * 2)
    with torch.no_grad():
        read = read_cache(bridge.run_with_cache(_tokens())[1], model)
    gone = {"blocks.1.hook_mlp_out", "blocks.1.hook_resid_post"}
    gone |= {n for n in model.default_hook_names() if n.startswith(("ln_final", "unembed"))}
    assert set(read) == model.default_hook_names() - gone


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(
    make_bridge: Any, hf_llama: Any, dtype: torch.dtype, assert_close: AssertClose
) -> None:
    bridge = make_bridge(hf_llama(dtype))
    model = adopt(bridge)
    assert model.cfg.dtype == dtype
    with torch.no_grad():
        read = read_cache(bridge.run_with_cache(_tokens())[1], model)
    assert set(read) == model.default_hook_names()


def test_gradients_are_read(make_bridge: Any, hf_gpt2: Any) -> None:
    bridge = make_bridge(hf_gpt2(), "raw")
    cache = bridge.run_with_cache(_tokens(), return_type="loss", incl_bwd=True)[1]
    names = [n for n in read_cache(cache) if n.endswith("_grad")]
    assert "blocks.0.hook_resid_pre_grad" in names


def test_caches_that_cannot_be_read(make_bridge: Any, hf_gpt2: Any, make_model: Any) -> None:
    bridge = make_bridge(hf_gpt2())
    cache = bridge.run_with_cache(_tokens(), names_filter="blocks.0.mlp.hook_in")[1]
    with pytest.raises(InputError, match="none of the 1 tensors"):
        read_cache(cache)
    ours = make_model().run_with_cache(_tokens() % 31)[1]
    for other in (ours, {}, lens.ActivationCache(ours.cache_dict, ours.model)):
        with pytest.raises(InputError, match="cache of a TransformerBridge"):
            read_cache(other)
