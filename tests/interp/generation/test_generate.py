from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError, load_model
from interp.generation.options import Options
from interp.generation.run import Run
from tests.covering import covering
from tests.interp.generation.fakes import FakeTokenizer, some_tokens

MakeModel = Callable[..., HookedTransformer]

FIELDS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_ctx": 40},
    "grouped": {
        "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
        "act_fn": "silu", "n_key_value_heads": 2,
    },
    "one-kv-head": {
        "normalization_type": "RMS", "positional_embedding_type": "rotary", "act_fn": "silu",
        "n_key_value_heads": 1, "tie_word_embeddings": True,
    },
    "ungrouped": {
        "positional_embedding_type": "rotary", "n_key_value_heads": 2,
        "ungroup_grouped_query_attention": True,
    },
}  # fmt: skip
kinds = pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)


def _by_hand(model: HookedTransformer, row: Tensor, n: int) -> Tensor:
    """The likeliest token each time, the whole text read anew."""
    for _ in range(n):
        row = torch.cat([row, model(row[None])[0, -1].argmax()[None]])
    return row


# --- generating ----------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_greedy_by_hand(
    fields: dict[str, Any], use_past_kv_cache: bool, make_model: MakeModel
) -> None:
    model = make_model(**fields)
    options = {"do_sample": False, "use_past_kv_cache": use_past_kv_cache}
    out = model.generate(some_tokens(), max_new_tokens=12, **options)
    assert out.shape == (3, 17)
    for row, tokens in zip(out, some_tokens(), strict=True):
        assert torch.equal(row, _by_hand(model, tokens, 12))
    one = model.generate(some_tokens()[0], max_new_tokens=12, **options)
    assert torch.equal(one, out[:1])


@kinds
def test_all_ways_to_be_greedy_agree(fields: dict[str, Any], make_model: MakeModel) -> None:
    model = make_model(**fields)
    expected = model.generate(some_tokens(), max_new_tokens=9, do_sample=False)
    for options in ({"temperature": 0.0}, {"top_k": 1}, {"top_k": 1, "temperature": 3.0}):
        assert torch.equal(model.generate(some_tokens(), max_new_tokens=9, **options), expected)


@kinds
def test_generator_decides_the_draws(fields: dict[str, Any], make_model: MakeModel) -> None:
    model = make_model(**fields)
    before = torch.get_rng_state()

    def draw(seed: int, **options: Any) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return model.generate(some_tokens(), max_new_tokens=10, generator=generator, **options)

    assert torch.equal(draw(0), draw(0))
    assert torch.equal(draw(0), draw(0, use_past_kv_cache=False))
    assert not torch.equal(draw(0), draw(1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(0)
    first = model.generate(some_tokens(), max_new_tokens=10)
    torch.manual_seed(0)
    assert torch.equal(model.generate(some_tokens(), max_new_tokens=10), first)


@pytest.mark.parametrize(
    ("kind", "use_past_kv_cache", "side", "pad"),
    covering(list(FIELDS), [True, False], ["left", "right"], [None, 0]),
)
def test_texts_of_differing_lengths_go_on_as_alone(
    kind: str,
    use_past_kv_cache: bool,
    side: str,
    pad: int | None,
    make_model: MakeModel,
) -> None:
    """Whatever the tokenizer's own padding side, which is of no use here."""
    model = make_model(FakeTokenizer(pad, 2, 1, side), **FIELDS[kind])
    texts = ["5 6 7 8 9", "11", "20 21 22"]
    options: dict[str, Any] = {
        "do_sample": False, "stop_at_eos": False, "use_past_kv_cache": use_past_kv_cache,
        "max_new_tokens": 8, "return_type": "tokens",
    }  # fmt: skip
    together = model.generate(texts, **options)
    for i, text in enumerate(texts):
        alone = model.generate(text, **options)
        assert torch.equal(together[i, -alone.shape[1] :], alone[0]), text
        assert torch.equal(alone[0], _by_hand(model, model.to_tokens(text)[0], 8)), text


@pytest.mark.parametrize(
    ("use_past_kv_cache", "prepend_bos", "pad", "side"),
    covering([True, False], [True, False, None], [None, 7], ["left", "right"]),
)
def test_a_generated_pad_token_is_a_token(
    use_past_kv_cache: bool,
    prepend_bos: bool | None,
    pad: int | None,
    side: str,
    make_model: MakeModel,
) -> None:
    """A pad or EOS token that the model itself wrote is read like any other."""
    model = make_model(FakeTokenizer(pad, 7, 1, side), **FIELDS["grouped"])
    with torch.no_grad():
        model.unembed.b_U[7] += 1e3  # it always says 7
        for block in model.blocks:
            block.attn.b_O.zero_()
    seen = []

    def keep(x: Tensor, hook: Any) -> None:
        seen.append(x[:, -1].clone())

    with model.hooks([("blocks.1.hook_resid_post", keep)]):
        out = model.generate(
            some_tokens(2), max_new_tokens=6, do_sample=False, stop_at_eos=False,
            prepend_bos=prepend_bos, use_past_kv_cache=use_past_kv_cache,
        )  # fmt: skip
    assert (out[:, 5:] == 7).all()
    mask = torch.ones(2, 11, dtype=torch.long)
    whole = model.run_with_cache(out, attention_mask=mask)[1]["resid_post", 1]
    found = torch.stack(seen, 1)
    torch.testing.assert_close(found, whole[:, 4:10].detach(), rtol=0, atol=1e-5)


def test_only_the_last_logits_of_a_prompt_are_made(make_model: MakeModel) -> None:
    """Unless a hook looks behind the blocks: it sees all positions, as in `forward`."""
    model = make_model(dtype="float64", output_logits_soft_cap=2.0)
    shapes: list[torch.Size] = []
    unembed = model.unembed.forward

    def noted(x: Tensor) -> Tensor:
        shapes.append(x.shape)
        return unembed(x)

    model.unembed.forward = noted  # type: ignore[method-assign]
    for use_past_kv_cache in (True, False):
        shapes.clear()
        plain = model.generate(
            some_tokens(2), max_new_tokens=3, do_sample=False, use_past_kv_cache=use_past_kv_cache
        )
        assert [shape[1] for shape in shapes] == [1, 1, 1]
    seen: list[int] = []
    with model.hooks([("ln_final.hook_scale", lambda x, hook: seen.append(x.shape[1]))]):
        hooked = model.generate(some_tokens(2), max_new_tokens=3, do_sample=False)
    assert seen == [5, 1, 1]
    assert torch.equal(plain, hooked)


def test_a_cache_has_room_for_all_that_is_generated(make_model: MakeModel) -> None:
    model = make_model(n_ctx=40)
    tokens = some_tokens(2)
    run = Run(model, tokens, Options(max_new_tokens=9, stop_at_eos=False))
    places = set()
    with torch.no_grad():
        while not run.is_over:
            run.advance()
            assert run.reader.past is not None
            places.add(run.reader.past[0].keys.data_ptr())
    assert len(places) == 1
    assert run.reader.past[0].keys.shape[1] == tokens.shape[1] + 8


def test_pieces_that_begin_with_the_pad_token(make_model: MakeModel) -> None:
    """Only what stands before all real tokens is padding, also where a cache holds those."""
    from interp import KeyValueCache

    model = make_model(FakeTokenizer(7, 7, 1, "left"), dtype="float64", **FIELDS["grouped"])
    tokens = torch.tensor([[3, 4, 7, 7, 5]])
    whole = model(tokens)
    past = KeyValueCache.init_cache(model.cfg, "cpu", 1)
    pieces = [model(piece, past_kv_cache=past) for piece in tokens.split([2, 3], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-10)


def _speaks(model: HookedTransformer, script: dict[int, int]) -> HookedTransformer:
    """Make the model answer each of these tokens with another, whatever came before."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.W_E.copy_(torch.eye(31, model.cfg.d_model))
        for token, answer in script.items():
            model.W_U[token, answer] = 1.0
    return model


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_rows_end_at_eos(use_past_kv_cache: bool, make_model: MakeModel) -> None:
    model = _speaks(
        make_model(normalization_type=None, d_model=31, d_head=4),
        {3: 4, 4: 9, 9: 3, 5: 6, 6: 3, 10: 9},
    )
    tokens = torch.tensor([[3], [5], [10]])
    options = {"do_sample": False, "use_past_kv_cache": use_past_kv_cache}
    out = model.generate(tokens, max_new_tokens=10, eos_token_id=9, **options)
    assert out.tolist() == [[3, 4, 9, 9, 9], [5, 6, 3, 4, 9], [10, 9, 9, 9, 9]]
    on = model.generate(tokens, max_new_tokens=4, eos_token_id=9, stop_at_eos=False, **options)
    assert on.tolist() == [[3, 4, 9, 3, 4], [5, 6, 3, 4, 9], [10, 9, 3, 4, 9]]
    assert model.generate(tokens, max_new_tokens=6, **options).shape == (3, 7)


def test_eos_of_the_tokenizer_ends_a_text(make_model: MakeModel) -> None:
    model = make_model(
        FakeTokenizer(None, 9, 1, "right"), normalization_type=None, d_model=31, d_head=4
    )
    _speaks(model, {3: 4, 4: 9, 9: 3, 5: 6, 6: 3, 10: 9})
    text = model.generate(["3", "5", "10"], max_new_tokens=10, do_sample=False)
    assert text == ["3 4", "5 6 3 4", "10"]
    assert model.generate("5", max_new_tokens=10, do_sample=False) == "5 6 3 4"


def test_return_types(make_model: MakeModel) -> None:
    model = make_model(FakeTokenizer(0, 2, 1, "right"))
    options: dict[str, Any] = {"max_new_tokens": 2, "do_sample": False, "stop_at_eos": False}
    tokens = model.generate("5 6", return_type="tokens", **options)
    assert tokens[0, :3].tolist() == [1, 5, 6]
    assert tokens.shape == (1, 5)
    text = model.generate("5 6", **options)
    assert isinstance(text, str)
    assert text.startswith("5 6 ")
    assert model.generate(["5 6"], **options) == [text]
    assert model.generate(tokens[:, :3], return_type="str", **options) == text
    assert torch.equal(model.generate(tokens[:, :3], **options), tokens)
    assert model.generate("5 6", prepend_bos=False, return_type="tokens", **options).shape == (1, 4)


def test_a_progress_bar(make_model: MakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    plain = make_model().generate(some_tokens(), 3, do_sample=False)
    assert capsys.readouterr().out == ""
    assert torch.equal(
        make_model().generate(some_tokens(), 3, do_sample=False, verbose=True), plain
    )
    assert "generating" in capsys.readouterr().out


def test_nothing_new(make_model: MakeModel) -> None:
    assert torch.equal(make_model().generate(some_tokens(), max_new_tokens=0), some_tokens())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens"),
        ({"return_type": "string"}, "return_type"),
        ({"eos_token_id": 31}, "eos_token_id"),
        ({"top_k": 0}, "top_k"),
        ({"temperature": -1.0}, "temperature"),
        ({"max_new_tokens": 30}, "n_ctx"),
        ({"return_type": "str", "max_new_tokens": 1}, "tokenizer"),
    ],
)
def test_bad_calls(options: dict[str, Any], message: str, make_model: MakeModel) -> None:
    with pytest.raises(InputError, match=message):
        make_model(n_ctx=24).generate(some_tokens(), **options)


def test_encoder_generates_the_same(make_model: MakeModel) -> None:
    """A bidirectional model has no cache to keep, whether it is asked for or not."""
    model = make_model(attention_dir="bidirectional")
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}
    expected = model.generate(some_tokens(), use_past_kv_cache=False, **options)
    for row, tokens in zip(expected, some_tokens(), strict=True):
        assert torch.equal(row, _by_hand(model, tokens, 8))
    assert torch.equal(model.generate(some_tokens(), **options), expected)


def test_it_needs_no_gradients_and_leaves_hooks(make_model: MakeModel) -> None:
    model, calls = make_model(), []
    model.add_hook("hook_embed", lambda x, hook: calls.append(x.shape[1]))
    out = model.generate(some_tokens(), max_new_tokens=3, do_sample=False)
    assert calls == [5, 1, 1]
    assert not out.requires_grad
    assert torch.is_grad_enabled()


def test_generate_from_left_padded_tokens(
    third_party: Callable[[str], Path],
) -> None:
    """With a real tokenizer: tokens that `to_tokens` padded go on as their texts do."""
    model = load_model(third_party("stories260K"), device="cpu")
    texts = ["Once upon a time, there was", "Lily"]
    tokens = model.to_tokens(texts, padding_side="left")
    model.tokenizer.padding_side = "left"
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "return_type": "str"}
    together = model.generate(tokens, **options)
    assert together == [model.generate(text, **options) for text in texts]


@pytest.mark.parametrize("tokenizer", [None, FakeTokenizer(7, 7, 7, "left")], ids=["", "tokenizer"])
def test_a_cache_is_given_up_where_a_longer_text_moves_its_keys(
    tokenizer: Any, make_model: MakeModel
) -> None:
    """Dynamic scaling turns all keys anew beyond the original context."""
    scaling = {"kind": "dynamic", "factor": 2.0, "original_n_ctx": 8}
    model = make_model(
        tokenizer, positional_embedding_type="rotary", rotary_scaling=scaling, n_ctx=32
    )
    seen: list[int] = []
    model.add_hook("hook_embed", lambda x, hook: seen.append(x.shape[1]))
    options: dict[str, Any] = {"do_sample": False, "prepend_bos": True, "stop_at_eos": False}
    tokens = some_tokens()
    tokens[0, 0] = 7
    cached = model.generate(tokens, 8, **options)
    assert seen == [5, 1, 1, 1, 9, 10, 11, 12]
    assert torch.equal(cached, model.generate(tokens, 8, use_past_kv_cache=False, **options))
