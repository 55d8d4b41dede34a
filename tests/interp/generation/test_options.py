from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from tests.interp.generation.fakes import SEQ2SEQ, FakeTokenizer, some_tokens

MakeModel = Callable[..., HookedTransformer]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams"),
        ({"num_beams": 2, "do_sample": True}, "contradict"),
        ({"num_beams": 2, "top_k": 3}, "top_k has no meaning"),
        ({"num_beams": 2, "top_p": 0.5}, "top_p has no meaning"),
        ({"num_beams": 2, "min_p": 0.5}, "min_p has no meaning"),
        ({"num_beams": 2, "temperature": 0.5}, "temperature has no meaning"),
        ({"num_beams": 2, "freq_penalty": 0.5}, "freq_penalty has no meaning"),
        ({"num_beams": 2, "num_return_sequences": 3}, "at most num_beams"),
        ({"num_beams": 2, "max_new_tokens": 0}, "max_new_tokens"),
        ({"num_beams": 2, "early_stopping": "sometimes"}, "early_stopping"),
        ({"num_beams": 2, "length_penalty": "long"}, "length_penalty"),
        ({"num_beams": 12, "eos_token_id": list(range(31))}, "candidates"),
        ({"length_penalty": 2.0}, "needs a beam search"),
        ({"early_stopping": True}, "needs a beam search"),
        ({"num_return_sequences": 0}, "num_return_sequences"),
        ({"num_return_sequences": 2, "do_sample": False}, "needs draws"),
        ({"top_p": 0.0}, "top_p"),
        ({"min_p": 2.0}, "min_p"),
        ({"seed": 0, "generator": torch.Generator()}, "exclude"),
        ({"seed": 0.5}, "seed"),
        ({"stop": 31}, "stop"),
        ({"stop": "a"}, "tokenizer"),
        ({"eos_token_id": [1, 40]}, "eos_token_id"),
        ({"decoder_input": some_tokens()}, "decoder_input has no meaning"),
        ({"attention_mask": torch.ones(3, 4)}, "attention_mask"),
        ({"attention_mask": torch.tensor([[1, 1, 1, 0, 0]] * 3)}, "on the left"),
        ({"attention_mask": torch.tensor([[1, 0, 1, 1, 1]] * 3)}, "on the left"),
    ],
)
def test_options_that_make_no_sense(
    options: dict[str, Any], message: str, make_model: MakeModel
) -> None:
    with pytest.raises(InputError, match=message):
        make_model().generate(some_tokens(), **options)


def test_inputs_that_make_no_sense(make_model: MakeModel) -> None:
    model = make_model(FakeTokenizer(0, 2, 1, "left"))
    for message, input, options in (
        ("attention_mask belongs to tokens", "5 6", {"attention_mask": torch.ones(1, 2)}),
        ("padding_side", "5 6", {"padding_side": "up"}),
        ("text or texts", [], {}),
        ("whole-number tokens", torch.zeros(2, 3), {}),
        ("whole-number tokens", torch.zeros(0, dtype=torch.long), {}),
    ):
        with pytest.raises(InputError, match=message):
            model.generate(input, **options)
    with pytest.raises(InputError, match="at least two beams"):
        model.beam_search("5 6", num_beams=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"architecture": "encoder"},
        {"architecture": "encoder", "head": "mlm"},
        {"architecture": "encoder", "head": "classification", "d_vocab_out": 3},
    ],
)
def test_only_models_of_next_tokens_generate(fields: dict[str, Any], make_model: MakeModel) -> None:
    with pytest.raises(InputError, match="needs a decoder"):
        make_model(**fields).generate(some_tokens())


# --- seeds ---------------------------------------------------------------------------------------


def test_a_seed_decides_the_draws(make_model: MakeModel) -> None:
    model = make_model(n_ctx=40)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = model.generate(some_tokens(), 12, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(model.generate(some_tokens(), 12, seed=5), first)
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(model.generate(some_tokens(), 12, generator=generator), first)
    assert not torch.equal(model.generate(some_tokens(), 12, seed=6), first)


def test_several_continuations(make_model: MakeModel) -> None:
    model = make_model(FakeTokenizer(0, 2, 1, "left"))
    options: dict[str, Any] = {"num_return_sequences": 3, "seed": 0}
    tokens = model.generate(some_tokens(), 6, **options)
    assert torch.equal(tokens[:, :5], some_tokens().repeat_interleave(3, 0))
    assert len({tuple(row) for row in tokens.tolist()}) == 9
    assert len(model.generate("5 6", 6, **options)) == 3
    texts = model.generate(["5 6", "7"], 6, **options)
    assert [text.split()[0] for text in texts] == ["5"] * 3 + ["7"] * 3


# --- ends of rows --------------------------------------------------------------------------------


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_rows_end_at_the_first_stop(use_past_kv_cache: bool, make_model: MakeModel) -> None:
    model = make_model(n_ctx=40)
    options: dict[str, Any] = {"seed": 1, "use_past_kv_cache": use_past_kv_cache}
    free = model.generate(some_tokens(), 30, **options)
    stops: list[Any] = [4, free[0, 20:23].tolist(), [free[1, 25].item()]]
    ended = model.generate(some_tokens(), 30, stop=stops, eos_token_id=30, **options)
    singles = {4, stops[2][0], 30}
    lengths = []
    for row in free[:, 5:].tolist():
        ends = [
            i for i, token in enumerate(row) if token in singles or row[i - 2 : i + 1] == stops[1]
        ]
        lengths.append(min(ends, default=29) + 1)
    assert ended.shape[1] == 5 + max(lengths)
    for found, row, n in zip(ended, free, lengths, strict=True):
        assert torch.equal(found[: 5 + n], row[: 5 + n])
        assert (found[5 + n :] == 30).all()


def test_a_text_ends_at_its_stop(make_model: MakeModel) -> None:
    model = make_model(FakeTokenizer(0, 2, 1, "left"), n_ctx=40)
    options: dict[str, Any] = {"seed": 1, "stop_at_eos": False}
    free = model.generate(["5 6 7", "8"], 20, **options)
    stop = " ".join(free[0].split()[8:10])
    ended = model.generate(["5 6 7", "8"], 20, stop=stop, **options)
    end = free[0].index(stop, len("5 6 7")) + len(stop)
    assert ended[0].startswith(free[0][:end])  # the token that ends it may say more
    assert len(ended[0]) <= end + 1
    assert free[1].startswith(ended[1])
    assert model.generate("5 6 7", 3, stop="nothing", **options).startswith("5 6 7 ")


# --- padding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_masked_rows_are_rows_alone(use_past_kv_cache: bool, make_model: MakeModel) -> None:
    """Also under penalties, which must not count the padding."""
    model = make_model(positional_embedding_type="rotary")
    mask = torch.ones(3, 5, dtype=torch.long)
    mask[1, :2], mask[2, :4] = 0, 0
    options: dict[str, Any] = {
        "do_sample": False, "repetition_penalty": 1.5, "use_past_kv_cache": use_past_kv_cache,
    }  # fmt: skip
    together = model.generate(some_tokens(), 8, attention_mask=mask, **options)
    for i, n in enumerate((0, 2, 4)):
        alone = model.generate(some_tokens()[i : i + 1, n:], 8, **options)
        assert torch.equal(together[i, n:], alone[0])


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_a_leading_bos_that_is_the_pad_token_is_read(
    use_past_kv_cache: bool, make_model: MakeModel
) -> None:
    """`prepend_bos` says so, whatever the config's default."""
    model = make_model(FakeTokenizer(7, 7, 7, "left"), default_prepend_bos=False)
    plain = make_model(default_prepend_bos=False)
    tokens = torch.tensor([[7, 5, 6]])
    options: dict[str, Any] = {
        "do_sample": False, "stop_at_eos": False, "use_past_kv_cache": use_past_kv_cache,
    }  # fmt: skip
    found = model.generate(tokens, 6, prepend_bos=True, **options)
    assert torch.equal(found, plain.generate(tokens, 6, **options))


# --- encoder–decoders ----------------------------------------------------------------------------


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_the_source_is_read_once(use_past_kv_cache: bool, make_model: MakeModel) -> None:
    model, encoded, projected = make_model(**SEQ2SEQ), [], []
    model.add_hook("encoder.hook_embed", lambda x, hook: encoded.append(len(x)))
    attn = model.decoder.blocks[0].cross_attn
    make = attn._project_keys_and_values
    attn._project_keys_and_values = lambda *inputs: projected.append(1) or make(*inputs)
    out = model.generate(some_tokens(), 6, do_sample=False, use_past_kv_cache=use_past_kv_cache)
    assert out.shape == (3, 7)
    assert (out[:, 0] == 1).all()
    assert encoded == [3]
    assert len(projected) == (1 if use_past_kv_cache else 6)
    model.generate(some_tokens(), 6, num_return_sequences=4)
    model.generate(some_tokens(), 6, num_beams=4)
    assert encoded == [3, 3, 3]


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
@torch.no_grad()
def test_the_decoder_reads_what_it_wrote(use_past_kv_cache: bool, make_model: MakeModel) -> None:
    model = make_model(**SEQ2SEQ)
    start = torch.tensor([[1, 5], [1, 6], [1, 7]])
    out = model.generate(
        some_tokens(), 6, do_sample=False, decoder_input=start, use_past_kv_cache=use_past_kv_cache
    )
    rows = start
    for _ in range(6):
        best = model(some_tokens(), decoder_input=rows)[:, -1].argmax(-1)
        rows = torch.cat([rows, best[:, None]], 1)
    assert torch.equal(out, rows)
    shared = model.generate(some_tokens(), 6, do_sample=False, decoder_input=start[0])
    assert torch.equal(shared[0], out[0])
    assert (shared[:, :2] == start[0]).all()
    with pytest.raises(InputError, match="one row, or one for each"):
        model.generate(some_tokens(), decoder_input=start[:2])


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_texts_of_differing_lengths_are_answered_as_alone(
    use_past_kv_cache: bool, side: str, make_model: MakeModel
) -> None:
    model = make_model(FakeTokenizer(0, 2, 1, side), **SEQ2SEQ)
    sources, starts = ["5 6 7 8 9", "11", "20 21 22"], ["3", "4 5 6", "7 8"]
    options: dict[str, Any] = {
        "do_sample": False, "stop_at_eos": False, "use_past_kv_cache": use_past_kv_cache,
        "max_new_tokens": 8,
    }  # fmt: skip
    together = model.generate(sources, decoder_input=starts, **options)
    for i, (source, start) in enumerate(zip(sources, starts, strict=True)):
        assert together[i] == model.generate(source, decoder_input=start, **options)
        assert together[i].startswith(start)
    free = model.generate(sources, **options)
    assert free == [model.generate(source, **options) for source in sources]
