"""Short names mean what they mean in TransformerLens."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from interp import HookedTransformer
from interp.names import get_act_name

_ATTN = [
    "k",
    "v",
    "q",
    "z",
    "rot_k",
    "rot_q",
    "result",
    "pattern",
    "attn_scores",
    "attn",
    "attn_logits",
    "key",
    "query",
    "value",
]
_MLP = ["pre", "post", "mid", "pre_linear", "mlp_pre", "mlp_mid", "mlp_post"]
_BLOCK = [
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "attn_in",
    "mlp_in",
    "q_input",
    "k_input",
    "v_input",
]
_TOP = [
    "embed",
    "pos_embed",
    "tokens",
    "hook_embed",
    "scale",
    "normalized",
    "blocks.3.attn.hook_k",
    "ln_final.hook_scale",
    "hook_nonsense",
]
_INPUTS: list[tuple[str | int | None, ...]] = [
    *product(_ATTN, [0, 11, "3"], [None, "a", "attn", "attention", "b", "mlp"]),
    *product(_MLP, [0, 11], [None, "m", "mlp", "b", "attn"]),
    *product(_BLOCK, [0, 11], [None, "b", "block", "blocks"]),
    *product(["scale", "normalized"], [0, 11], ["ln1", "ln2", "mlp.ln"]),
    *((name,) for name in _TOP),
    ("k6",), ("q0a",), ("z12attn",), ("pre5",), ("post5m",), ("scale4ln1",), ("normalized10ln2",),
    ("pattern3",),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (("k", 6, "a"), "blocks.6.attn.hook_k"),
        (("k", 6), "blocks.6.attn.hook_k"),
        (("k6",), "blocks.6.attn.hook_k"),
        (("pre", 2), "blocks.2.mlp.hook_pre"),
        (("pre5",), "blocks.5.mlp.hook_pre"),
        (("embed",), "hook_embed"),
        (("normalized", 27, "ln2"), "blocks.27.ln2.hook_normalized"),
        (("scale4ln1",), "blocks.4.ln1.hook_scale"),
        (("normalized",), "ln_final.hook_normalized"),
        (("attn", 0), "blocks.0.attn.hook_pattern"),
        (("mlp_post", 0), "blocks.0.mlp.hook_post"),
        (("resid_post", 3), "blocks.3.hook_resid_post"),
        (("resid_post3",), "blocks.3.hook_resid_post"),
        (("mlp_out12",), "blocks.12.hook_mlp_out"),
        (("k", 1, "mlp"), "blocks.1.attn.hook_k"),
    ],
)
def test_examples(given: tuple[str | int, ...], name: str) -> None:
    assert get_act_name(*given) == name  # type: ignore[arg-type]


def test_as_in_transformerlens() -> None:
    utils = pytest.importorskip("transformer_lens.utilities", reason="needs the extra 'lens'")
    for given in _INPUTS:
        assert get_act_name(*given) == utils.get_act_name(*given), given  # type: ignore[arg-type]


def test_every_hook_has_a_short_name(make_model: Callable[..., HookedTransformer]) -> None:
    fields = {"positional_embedding_type": "rotary", "gated_mlp": True}
    for name in [*make_model(**fields).hook_dict, *make_model(act_fn="solu_ln").hook_dict]:
        assert get_act_name(name) == name
        parts = name.split(".")
        short = parts[-1].removeprefix("hook_")
        if parts[0] == "blocks":
            where = ".".join(parts[2:-1])
            assert get_act_name(short, int(parts[1]), where or None) == name
            if where in ("attn", "mlp", ""):
                assert get_act_name(short, int(parts[1])) == name
        elif parts[0] != "unembed":
            assert get_act_name(short) == name
