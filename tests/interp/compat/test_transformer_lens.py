"""Beside TransformerLens itself: its 4.x bridge on the same weights, and 3.x's checkpoints."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import ActivationCache, HookedTransformer, HookedTransformerConfig, InputError
from tests.covering import every_nth

AssertClose = Callable[..., None]

# What 4.x adds: the seams of its adapters, which 3.x did not have.
ADDED = re.compile(
    r"(?!unembed\.)(.*\.)?(hook_in|hook_out|hook_cos|hook_sin|hook_hidden_states|hook_unembed)$"
)


def _tokens() -> Tensor:
    return torch.randint(37, (2, 9), generator=torch.Generator().manual_seed(0))


def _bridge(hf_model: Any, processed: bool) -> Any:
    builder = pytest.importorskip(
        "transformer_lens.model_bridge.sources._bridge_builder", reason="needs the extra 'lens'"
    )
    theirs = copy.deepcopy(hf_model)  # the bridge works on the model it is given
    bridge = builder.build_bridge_from_module(
        theirs, type(hf_model).__name__, hf_config=hf_model.config
    )
    bridge.enable_compatibility_mode(no_processing=not processed, disable_warnings=True)
    bridge.set_use_attn_result(True)
    return bridge


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("hf_gpt2", {}),
    "gpt2-exact": ("hf_gpt2", {"activation_function": "gelu", "n_inner": 17, "n_layer": 3}),
    "llama": ("hf_llama", {}),
    "llama-one-kv": ("hf_llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "llama-ungrouped": ("hf_llama", {"num_key_value_heads": 4}),
}


@pytest.fixture(
    scope="module",
    params=[(n, p) for i, n in enumerate(MODELS) for p in every_nth((False, True), 2, i)],
    ids=lambda p: f"{p[0]}-{'processed' if p[1] else 'raw'}",
)  # fmt: skip
def pair(request: pytest.FixtureRequest) -> tuple[HookedTransformer, Any]:
    """Our model and theirs."""
    name, processed = request.param
    fixture, fields = MODELS[name]
    hf_model = request.getfixturevalue(fixture)(**fields)
    model = HookedTransformer.from_hf(hf_model)
    model = model.process_weights() if processed else model
    model.set_use_attn_result(True)
    return model, _bridge(hf_model, processed)


@pytest.fixture(scope="module")
def caches(pair: tuple[HookedTransformer, Any]) -> tuple[ActivationCache, Any]:
    with torch.no_grad():
        return tuple(model.run_with_cache(_tokens())[1] for model in pair)  # type: ignore[return-value]


def test_logits_and_loss(pair: tuple[HookedTransformer, Any], assert_close: AssertClose) -> None:
    model, bridge = pair
    with torch.no_grad():
        assert_close(model(_tokens()), bridge(_tokens()))
        assert_close(model(_tokens(), return_type="loss"), bridge(_tokens(), return_type="loss"))


def test_cache_names(caches: tuple[ActivationCache, Any]) -> None:
    """Theirs without what 4.x added."""
    ours, theirs = (set(cache.keys()) for cache in caches)
    assert {name for name in theirs if not ADDED.match(name)} == ours


def test_cache_values(caches: tuple[ActivationCache, Any], assert_close: AssertClose) -> None:
    """Wherever they have a name, the tensors agree, masked scores included."""
    ours, theirs = caches
    for name, tensor in ours.items():
        expected = theirs[name]
        if name.endswith("attn_scores"):
            future = torch.ones(9, 9).triu(1).bool()
            assert (tensor[..., future] == -torch.inf).all(), name
            tensor, expected = tensor[..., ~future], expected[..., ~future]
        assert_close(tensor, expected, name)


def test_decompositions(
    pair: tuple[HookedTransformer, Any],
    caches: tuple[ActivationCache, Any],
    assert_close: AssertClose,
) -> None:
    ours, theirs = caches
    n_layers = pair[0].cfg.n_layers
    calls: list[tuple[str, dict[str, Any]]] = [
        ("decompose_resid", {"layer": n_layers}),
        ("decompose_resid", {"layer": 1, "mode": "attn"}),
        ("decompose_resid", {"layer": 1, "mlp_input": True}),
        ("accumulated_resid", {"layer": n_layers, "incl_mid": True}),
        ("accumulated_resid", {"layer": 1}),
        ("stack_head_results", {"layer": n_layers}),
        ("stack_head_results", {"layer": 1, "incl_remainder": True}),
        ("stack_head_results", {"layer": n_layers, "pos_slice": -1}),
    ]
    for method, arguments in calls:
        found, labels = getattr(ours, method)(**arguments, return_labels=True)
        expected, their_labels = getattr(theirs, method)(**arguments, return_labels=True)
        assert labels == list(their_labels), (method, arguments)
        assert_close(found, expected, f"{method} {arguments}")


def test_logit_attributions(
    pair: tuple[HookedTransformer, Any],
    caches: tuple[ActivationCache, Any],
    assert_close: AssertClose,
) -> None:
    """Theirs leave out the final norm's weight; ours with the weight put in again are the same."""
    model, (ours, theirs) = pair[0], caches
    n_layers = model.cfg.n_layers
    right, wrong = torch.tensor([3, 5]), torch.tensor([8, 1])
    stack = theirs.stack_head_results(n_layers, pos_slice=-1)
    weight = getattr(model.ln_final, "w", None)
    for tokens, others in ((right, None), (right, wrong)):
        found = ours.logit_attrs(
            ours.stack_head_results(n_layers, pos_slice=-1), tokens, others, pos_slice=-1
        )
        if weight is None:
            expected = theirs.logit_attrs(stack, tokens, others, pos_slice=-1)
        else:
            scaled = theirs.apply_ln_to_stack(stack, layer=-1, pos_slice=-1)
            directions = model.W_U[:, tokens] - (0 if others is None else model.W_U[:, others])
            expected = torch.einsum("cbd,d,db->cb", scaled, weight, directions)
        assert_close(found, expected)


def test_weights(pair: tuple[HookedTransformer, Any], assert_close: AssertClose) -> None:
    """The stacked weights that scripts read, processed and raw."""
    model, bridge = pair
    grouped = model.cfg.n_kv_heads != model.cfg.n_heads
    names = ["W_E", "W_U", "W_Q", "W_O", "W_in", "W_out"]
    names += [] if grouped else ["W_K", "W_V"]
    names += (
        ["W_pos", "b_Q", "b_O", "b_in", "b_out"] if "pos_embed.W_pos" in model.state_dict() else []
    )
    names += ["W_gate"] if model.cfg.gated_mlp else []
    for name in names:
        assert_close(getattr(model, name), getattr(bridge, name), name)


# --- 3.x -----------------------------------------------------------------------------------------

LLAMA = {
    "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
    "act_fn": "silu", "n_key_value_heads": 2,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": LLAMA,
    "llama-tied": {**LLAMA, "tie_word_embeddings": True},
    "attn-only": {"attn_only": True, "normalization_type": "LNPre"},
    "folded": {"normalization_type": "LNPre"},
    "solu": {"act_fn": "solu_ln"},
}


def _old_checkpoint(cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    """A state dict as `HookedTransformer.state_dict()` of TransformerLens 3 gave it."""
    generator = torch.Generator().manual_seed(3)
    state: dict[str, Tensor] = {}

    def put(name: str, *shape: int) -> None:
        state[name] = torch.empty(*shape).normal_(0.0, 0.3, generator=generator)

    def norm(name: str, width: int) -> None:
        for kind in {"LN": ("w", "b"), "RMS": ("w",)}.get(cfg.normalization_type or "", ()):
            put(f"{name}.{kind}", width)

    put("embed.W_E", cfg.d_vocab, cfg.d_model)
    if cfg.positional_embedding_type == "standard":
        put("pos_embed.W_pos", cfg.n_ctx, cfg.d_model)
    kv = "" if cfg.n_kv_heads == cfg.n_heads else "_"
    for i in range(cfg.n_layers):
        attn, mlp = f"blocks.{i}.attn.", f"blocks.{i}.mlp."
        norm(f"blocks.{i}.ln1", cfg.d_model)
        put(f"{attn}W_Q", cfg.n_heads, cfg.d_model, cfg.d_head)
        put(f"{attn}W_O", cfg.n_heads, cfg.d_head, cfg.d_model)
        put(f"{attn}b_Q", cfg.n_heads, cfg.d_head)
        put(f"{attn}b_O", cfg.d_model)
        for name in ("W_K", "W_V"):
            put(f"{attn}{kv}{name}", cfg.n_kv_heads, cfg.d_model, cfg.d_head)
            put(f"{attn}{kv}{name.replace('W', 'b')}", cfg.n_kv_heads, cfg.d_head)
        state[f"{attn}mask"] = torch.ones(cfg.n_ctx, cfg.n_ctx).tril().bool()
        state[f"{attn}IGNORE"] = torch.tensor(-torch.inf)
        if cfg.positional_embedding_type == "rotary":
            state[f"{attn}rotary_sin"] = torch.zeros(cfg.n_ctx, cfg.rotary_dim or 0)
            state[f"{attn}rotary_cos"] = torch.ones(cfg.n_ctx, cfg.rotary_dim or 0)
        if cfg.attn_only:
            continue
        norm(f"blocks.{i}.ln2", cfg.d_model)
        put(f"{mlp}W_in", cfg.d_model, cfg.width_mlp)
        put(f"{mlp}b_in", cfg.width_mlp)
        put(f"{mlp}W_out", cfg.width_mlp, cfg.d_model)
        put(f"{mlp}b_out", cfg.d_model)
        if cfg.gated_mlp:
            put(f"{mlp}W_gate", cfg.d_model, cfg.width_mlp)
        if cfg.act_fn == "solu_ln":
            norm(f"{mlp}ln", cfg.width_mlp)
    norm("ln_final", cfg.d_model)
    put("unembed.W_U", cfg.d_model, cfg.d_vocab)
    if cfg.tie_word_embeddings:
        state["unembed.W_U"] = state["embed.W_E"].T.clone()
    put("unembed.b_U", cfg.d_vocab)
    return state


def _config(fields: dict[str, Any]) -> HookedTransformerConfig:
    small: dict[str, Any] = {
        "n_layers": 2, "d_model": 12, "n_ctx": 9, "n_heads": 4, "d_head": 6, "d_mlp": 10,
        "act_fn": "gelu", "d_vocab": 37, "device": "cpu",
    }  # fmt: skip
    if fields.get("attn_only"):
        del small["d_mlp"], small["act_fn"]
    return HookedTransformerConfig(**{**small, **fields})


@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS)
def test_old_checkpoints_load(fields: dict[str, Any]) -> None:
    cfg = _config(fields)
    state = _old_checkpoint(cfg)
    given = dict(state)
    model = HookedTransformer(cfg)
    result = model.load_state_dict(state)
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert state == given
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, state[name]), name
    buffers = {"mask", "IGNORE", "rotary_sin", "rotary_cos"}
    left_out = {n for n in state if n.rsplit(".", 1)[-1] in buffers}
    tied = {"unembed.W_U"} if cfg.tie_word_embeddings else set()
    assert set(state) - left_out - tied == set(model.state_dict())
    assert torch.equal(model.W_U, state["unembed.W_U"])


def test_old_checkpoint_with_a_weight_too_few_or_many() -> None:
    cfg = _config({})
    state = _old_checkpoint(cfg)
    with pytest.raises(RuntimeError, match=r"blocks\.0\.attn\.rotary"):
        HookedTransformer(cfg).load_state_dict({**state, "blocks.0.attn.rotary": torch.ones(1)})
    del state["unembed.b_U"]
    with pytest.raises(RuntimeError, match=r"unembed\.b_U"):
        HookedTransformer(cfg).load_state_dict(state)


def test_tied_model_refuses_a_processed_checkpoint() -> None:
    cfg = _config(CONFIGS["llama-tied"])
    state = _old_checkpoint(cfg)
    state["unembed.W_U"] = state["unembed.W_U"] * 2
    with pytest.raises(InputError, match="tie_word_embeddings=False"):
        HookedTransformer(cfg).load_state_dict(state)


@pytest.mark.parametrize("name", ["gpt2", "llama", "attn-only", "folded", "solu"])
def test_processing_is_theirs(name: str, assert_close: AssertClose) -> None:
    """TransformerLens's own `ProcessWeights` on the same state dict gives the same weights."""
    processing = pytest.importorskip(
        "transformer_lens.weight_processing", reason="needs the extra 'lens'"
    )
    cfg = _config(CONFIGS[name])
    state = _old_checkpoint(cfg)
    model = HookedTransformer(cfg)
    model.load_state_dict(state)
    kv_heads = cfg.n_kv_heads if cfg.n_kv_heads != cfg.n_heads else None  # as they write it
    their_cfg = SimpleNamespace(**{**vars(cfg), "n_key_value_heads": kv_heads})
    theirs = processing.ProcessWeights.process_weights(dict(state), their_cfg)
    if cfg.normalization_type == "LNPre":
        # They centre what reads a weightless norm in the blocks, and forget the unembedding.
        theirs["unembed.W_U"] -= theirs["unembed.W_U"].mean(0)
    for key, weight in model.process_weights().state_dict().items():
        assert_close(weight, theirs[key], key)
