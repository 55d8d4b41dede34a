from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.weight_circuits import direct_path, ov_circuit, qk_circuit
from interp.weight_circuits.circuits import rows_read
from tests.interp.kinds import KINDS
from tests.interp.weight_circuits.isolation import alone, every_token, seen, without_biases

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]

UNCAPPED = {"dtype": "float64", "attn_scores_soft_cap": -1.0}
LANGUAGE = [n for n, fields in KINDS.items() if fields.get("head", "lm") == "lm"]
SCORED = [n for n in KINDS if n != "full-ungrouped"]


def _made(make_model: Make, kind: str) -> HookedTransformer:
    return without_biases(make_model(**{**KINDS[kind], **UNCAPPED}))


def _logits(model: HookedTransformer, tokens: Tensor, *heads: tuple[int, int]) -> Tensor:
    return seen(model, tokens, "unembed.hook_out", alone(model, heads))[:, -1]


@pytest.mark.parametrize("kind", LANGUAGE)
def test_ov_and_direct_path_are_what_the_model_does(
    kind: str, make_model: Make, assert_close: Check
) -> None:
    """Every token through one head alone, and past all of them."""
    model = _made(make_model, kind)
    tokens = every_token(model)
    past = _logits(model, tokens)
    assert_close(direct_path(model).AB, past, "direct path")
    less_mean = past - past.mean(-1, keepdim=True)
    assert_close(direct_path(model, less_mean=True).AB, less_mean, "less the mean")
    for head in ((0, 1), (model.cfg.n_layers - 1, model.cfg.n_heads - 1)):
        added = _logits(model, tokens, head) - past
        circuit = ov_circuit(model, *head)
        assert circuit.shape == (31, model.cfg.d_vocab_out)
        assert circuit.mdim == model.cfg.d_head
        assert_close(circuit.AB, added, str(head))
        found = ov_circuit(model, *head, less_mean=True).AB
        assert_close(found, added - added.mean(-1, keepdim=True), str(head))


@pytest.mark.parametrize("kind", SCORED)
def test_qk_is_the_score(kind: str, make_model: Make, assert_close: Check) -> None:
    """Every pair of tokens, the key one position back (at no distance where nothing turns)."""
    model = _made(make_model, kind)
    distance = int(model.cfg.positional_embedding_type == "rotary")
    n = model.cfg.d_vocab
    pairs = torch.cartesian_prod(torch.arange(n), torch.arange(n))  # key, query
    for layer in range(model.cfg.n_layers):
        name = f"blocks.{layer}.attn.hook_attn_scores"
        scores = seen(model, pairs, name, alone(model))[:, :, 1, 0]
        for head in (0, model.cfg.n_heads - 1):
            found = qk_circuit(model, layer, head, distance=distance, scaled=True)
            assert_close(found.AB, scores[:, head].view(n, n).T, f"L{layer}H{head}")
            scale = model.main_stack.blocks[layer].attn.attn_scale
            bare = qk_circuit(model, layer, head, distance=distance)
            assert_close(bare.AB, found.AB * scale, "bare")


@pytest.mark.parametrize("kind", ["gpt2", "shortformer", "marian", "bert"])
def test_qk_of_positions(kind: str, make_model: Make, assert_close: Check) -> None:
    """Scores of one token everywhere, split into tokens, positions and the two together."""
    model = _made(make_model, kind)
    hooks = [
        (lambda name: name.endswith("hook_scale"), lambda x, hook: torch.ones_like(x)),
        (lambda name: name.endswith(("attn_out", "hook_mlp_out", "hook_token_type_embed")),
         lambda x, hook: torch.zeros_like(x)),
    ]  # fmt: skip
    n_ctx = 3
    token = 7
    tokens = torch.full((1, n_ctx), token)
    for layer in range(2):
        scores = seen(model, tokens, f"blocks.{layer}.attn.hook_attn_scores", hooks)[0, 2]
        kinds: list[Any] = ["token", "position"]
        total = torch.zeros(n_ctx, n_ctx, dtype=torch.float64)
        for query in kinds:
            for key in kinds:
                circuit = qk_circuit(model, layer, 2, query, key, scaled=True).AB
                rows = [token] * n_ctx if query == "token" else list(range(n_ctx))
                columns = [token] * n_ctx if key == "token" else list(range(n_ctx))
                total += circuit[rows][:, columns]
        allowed = scores.isfinite()
        assert_close(total[allowed], scores[allowed], str(layer))


def test_plain_products(make_model: Make, assert_close: Check) -> None:
    """Without norms: the products that the field writes down."""
    model = make_model(normalization_type=None, dtype="float64", n_key_value_heads=2)
    with torch.no_grad():
        W_E, W_U = model.W_E, model.W_U
        ov = torch.einsum("vd,de,ef,fo->vo", W_E, model.W_V[1, 3], model.W_O[1, 3], W_U)
        qk = torch.einsum("ad,de,fe,bf->ab", W_E, model.W_Q[1, 3], model.W_K[1, 3], W_E)
        assert_close(ov_circuit(model, 1, 3).AB, ov)
        assert_close(qk_circuit(model, 1, 3).AB, qk)
        assert_close(direct_path(model).AB, W_E @ W_U)
        positions = qk_circuit(model, 0, 1, "position", "position").AB
        W_pos = model.W_pos
        assert_close(positions, W_pos @ model.W_Q[0, 1] @ model.W_K[0, 1].T @ W_pos.T)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gptj", "gemma2", "solu-ln-rms"])
def test_processed_weights_give_the_same(kind: str, make_model: Make, assert_close: Check) -> None:
    model = make_model(**{**KINDS[kind], "dtype": "float64"})
    folded = model.process_weights(center_unembed=False)
    assert folded.cfg.weight_processing
    with torch.no_grad():
        for make in (
            lambda m: ov_circuit(m, 1, 2),
            lambda m: qk_circuit(m, 1, 2),
            direct_path,
        ):
            assert_close(make(folded).AB, make(model).AB)


@pytest.mark.parametrize("kind", ["gpt2", "neox", "gemma2", "mixtral-post", "bloom", "olmo2"])
def test_effective_rows(kind: str, make_model: Make, assert_close: Check) -> None:
    """Tokens run through the whole first block, its attention silenced, norms as they are."""
    model = make_model(**{**KINDS[kind], **UNCAPPED})
    silent = [
        (lambda name: name.endswith("hook_pos_embed") or name == "blocks.0.hook_attn_out",
         lambda x, hook: torch.zeros_like(x)),
        (lambda name: name.endswith("hook_token_type_embed"),
         lambda x, hook: torch.zeros_like(x)),
    ]  # fmt: skip
    stream = seen(model, every_token(model), "blocks.1.hook_resid_pre", silent)[:, 0]
    with torch.no_grad():
        norm = without_biases(model).main_stack.blocks[1]
        expected = stream
        if norm.reads_normalised:
            expected = _at_scale_one(norm.ln1, stream)
        assert_close(rows_read(model, 1, "effective"), expected)
        circuit = ov_circuit(model, 1, 0, "effective")
        assert_close(circuit.A, expected @ model.main_stack.blocks[1].attn.W_V[0])


def _at_scale_one(norm: Any, x: Tensor) -> Tensor:
    hook = norm.hook_scale.add_hook(lambda scale, hook: torch.ones_like(scale))
    found = norm(x[:, None], explicit=True)[:, 0]
    norm.hook_scale.detach(hook)
    return found


def test_half_precision_is_read_in_fp32(make_model: Make) -> None:
    model = make_model(dtype="bfloat16")
    wide = make_model(dtype="bfloat16").to(torch.float32)
    for make in (
        lambda m: ov_circuit(m, 0, 1), lambda m: qk_circuit(m, 1, 1, "position"), direct_path
    ):  # fmt: skip
        assert make(model).A.dtype == torch.float32
        assert torch.allclose(make(model).AB, make(wide).AB)


@pytest.mark.parametrize(
    ("fields", "call", "message"),
    [
        ({}, lambda m: ov_circuit(m, 2, 0), "layer must lie in 0 … 1"),
        ({}, lambda m: qk_circuit(m, 0, 4), "head must lie in 0 … 3"),
        ({}, lambda m: qk_circuit(m, 0, -1), "head must lie in 0 … 3"),
        ({}, lambda m: ov_circuit(m, 0, 0, "effective"), "from layer 1 on"),
        ({}, lambda m: ov_circuit(m, 0, 0, "words"), "rows must be one of"),
        ({}, lambda m: qk_circuit(m, 0, 0, distance=1), "only with rotary positions"),
        (
            {"attn_only": True},
            lambda m: ov_circuit(m, 1, 0, "effective"),
            "This model has no MLP",
        ),
        (
            {"positional_embedding_type": "rotary"},
            lambda m: qk_circuit(m, 0, 0, "position"),
            "positions that are vectors",
        ),
        (
            {"positional_embedding_type": "shortformer"},
            lambda m: ov_circuit(m, 0, 0, "position"),
            "values do not hold positions",
        ),
        (
            {"positional_embedding_type": "shortformer"},
            lambda m: direct_path(m, "position"),
            "does not hold positions",
        ),
        (KINDS["classifier"], lambda m: ov_circuit(m, 0, 0), "head='lm'"),
        (KINDS["bert"], direct_path, "head='lm'"),
        (KINDS["full-ungrouped"], lambda m: qk_circuit(m, 0, 0), "centred over all heads"),
        (KINDS["t5"], lambda m: direct_path(m, "effective"), "encoder-decoder"),
    ],
)
def test_what_is_not_there(
    fields: dict[str, Any], call: Callable[[HookedTransformer], Any], message: str,
    make_model: Make,
) -> None:  # fmt: skip
    with pytest.raises(InputError, match=message):
        call(make_model(**fields))


def test_effective_rows_run_no_hooks(make_model: Make) -> None:
    model = make_model()
    with (
        model.hooks([("blocks.0.hook_mlp_out", lambda x, hook: x * 2)]),
        pytest.raises(InputError, match="detach hooks first"),
    ):
        ov_circuit(model, 1, 0, "effective")
