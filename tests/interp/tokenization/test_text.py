from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interp import HookedTransformer, HookedTransformerConfig, InputError
from interp.pretrained.tokenizers import load_tokenizer
from tests.covering import covering

pytest.importorskip("transformers", reason="needs the extra 'hf'")

ThirdParty = Callable[[str], Path]
TOKENIZERS = {"gpt2": "gpt2-tokenizer", "llama": "stories260K"}
BOS = 50256


def _model(tokenizer: Any, **fields: Any) -> HookedTransformer:
    small: dict[str, Any] = {
        "n_layers": 1, "d_model": 8, "n_heads": 2, "n_ctx": 64, "act_fn": "relu", "device": "cpu",
    }  # fmt: skip
    return HookedTransformer(HookedTransformerConfig(**{**small, **fields}), tokenizer)


@pytest.fixture(scope="module")
def tokenizers(third_party: ThirdParty) -> Callable[[str], Any]:
    """Tokenizers loaded once; what a test sets on one it undoes."""
    return functools.cache(lambda name: load_tokenizer(third_party(TOKENIZERS[name])))


@pytest.fixture(scope="module")
def gpt2(tokenizers: Callable[[str], Any]) -> HookedTransformer:
    """A model with GPT-2's tokenizer: BOS is EOS, and there is no pad token. No test changes it."""
    return _model(tokenizers("gpt2"))


@pytest.fixture(scope="module")
def llama(tokenizers: Callable[[str], Any]) -> HookedTransformer:
    """A model with a SentencePiece-like tokenizer: a text begins with a space of its own."""
    return _model(tokenizers("llama"))


@pytest.fixture(scope="module")
def in_fp64(tokenizers: Callable[[str], Any]) -> Callable[[str], HookedTransformer]:
    """Models with these tokenizers in double precision, made once."""
    return functools.cache(lambda name: _model(tokenizers(name)).double())


@pytest.fixture
def bare() -> HookedTransformer:
    return _model(None, d_vocab=5)


# --- to_tokens -----------------------------------------------------------------------------------


def test_tokenizer_gives_the_vocabulary(gpt2: HookedTransformer) -> None:
    assert (gpt2.cfg.d_vocab, gpt2.cfg.d_vocab_out, gpt2.W_E.shape[0]) == (50257, 50257, 50257)


def test_to_tokens(gpt2: HookedTransformer) -> None:
    assert gpt2.to_tokens("Hello world").tolist() == [[BOS, 15496, 995]]
    assert gpt2.to_tokens("Hello world", prepend_bos=False).tolist() == [[15496, 995]]
    assert gpt2.to_tokens("").tolist() == [[BOS]]
    assert gpt2.to_tokens("", prepend_bos=True).dtype == torch.int64


def test_bos_is_never_put_there_twice(llama: HookedTransformer) -> None:
    """Also where the tokenizer would add its own."""
    tokens = llama.to_tokens("Once upon")
    assert tokens[0, 0] == 1
    assert (tokens == 1).sum() == 1
    assert (llama.to_tokens("Once upon", prepend_bos=False) == 1).sum() == 0


def test_default_prepend_bos(tokenizers: Callable[[str], Any]) -> None:
    gpt2 = _model(tokenizers("gpt2"))
    gpt2.cfg.default_prepend_bos = False
    assert gpt2.to_tokens("Hello").tolist() == [[15496]]
    assert gpt2.to_tokens("Hello", prepend_bos=True).tolist() == [[BOS, 15496]]
    assert gpt2.to_str_tokens("Hello") == ["Hello"]
    assert gpt2("Hello").shape[1] == 1
    assert gpt2("Hello", prepend_bos=True).shape[1] == 2


def test_tokenizer_without_bos(third_party: ThirdParty, tmp_path: Path) -> None:
    shutil.copy(third_party("gpt2-tokenizer") / "tokenizer.json", tmp_path)
    model = _model(load_tokenizer(tmp_path))
    assert model.to_tokens("Hello").tolist() == [[15496]]
    with pytest.raises(InputError, match="no BOS"):
        model.to_tokens("Hello", prepend_bos=True)
    with pytest.raises(InputError, match="pad or EOS"):
        model.to_tokens(["Hello", "Hello world"])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("by", ["argument", "tokenizer", "constructor"])
def test_padding(
    side: Any, by: str, tokenizers: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizers("gpt2")
    other = "left" if side == "right" else "right"
    monkeypatch.setattr(tokenizer, "padding_side", side if by == "tokenizer" else other)
    default = side if by == "constructor" else None
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=8, n_heads=2, n_ctx=64, act_fn="relu", device="cpu"
    )
    model = HookedTransformer(cfg, tokenizer, default_padding_side=default)
    tokens = model.to_tokens(
        ["Hello", "Hello world"], padding_side=side if by == "argument" else None
    )
    short = [BOS, 15496, BOS] if side == "right" else [BOS, BOS, 15496]
    assert tokens.tolist() == [short, [BOS, 15496, 995]]


def test_pad_token_is_used_where_there_is_one(third_party: ThirdParty) -> None:
    gpt2 = _model(load_tokenizer(third_party("gpt2-tokenizer")))
    gpt2.tokenizer.pad_token = "!"
    assert gpt2.to_tokens(["Hello", "Hello world"]).tolist()[0] == [BOS, 15496, 0]


def test_truncation(gpt2: HookedTransformer) -> None:
    long = " a" * 100
    assert gpt2.to_tokens(long).shape == (1, 64)
    assert gpt2.to_tokens(long, truncate=False).shape == (1, 101)
    assert gpt2.to_tokens([long, "a"]).shape == (2, 64)


def test_move_to_device(gpt2: HookedTransformer) -> None:
    assert gpt2.to_tokens("a", move_to_device=False).device.type == "cpu"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.to_tokens("", prepend_bos=False), "at least one token"),
        (lambda m: m.to_tokens([]), "text or texts"),
        (lambda m: m.to_tokens(["a", 3]), "text or texts"),
        (lambda m: m.to_tokens(["a", "b c"], padding_side="middle"), "padding_side"),
        (lambda m: m.set_tokenizer(m.tokenizer, "middle"), "padding_side"),
        (lambda m: m.to_string(torch.ones(1, 1, 1).long()), "pos"),
        (lambda m: m.to_single_token("Hello world"), r"'Hello', ' world'"),
        (lambda m: m.to_single_token(""), "single token"),
        (lambda m: m.get_token_position(" moon", "the sun"), "does not occur"),
        (lambda m: m.get_token_position(" sun", "the sun", mode="middle"), "mode"),
        (lambda m: m.get_token_position(5, torch.ones(2, 3).long()), "single row"),
    ],
)
def test_bad_calls(
    call: Callable[[HookedTransformer], object], message: str, gpt2: HookedTransformer
) -> None:
    with pytest.raises(InputError, match=message):
        call(gpt2)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.to_tokens("a"),
        lambda m: m.to_string(torch.tensor([1])),
        lambda m: m.to_str_tokens("a"),
        lambda m: m.to_str_tokens(torch.tensor([1])),
        lambda m: m.to_single_token("a"),
        lambda m: m.to_single_str_token(1),
        lambda m: m.tokens_to_residual_directions("a"),
        lambda m: m("a"),
        lambda m: m.generate("a"),
    ],
)
def test_text_needs_a_tokenizer(
    call: Callable[[HookedTransformer], object], bare: HookedTransformer
) -> None:
    with pytest.raises(InputError, match="tokenizer"):
        call(bare)


def test_tokenizer_larger_than_the_model(tokenizers: Callable[[str], Any]) -> None:
    tokenizer = tokenizers("gpt2")
    with pytest.raises(InputError, match="50257"):
        _model(tokenizer, d_vocab=100)
    assert _model(tokenizer, d_vocab=50300).cfg.d_vocab_out == 50300


# --- to text -------------------------------------------------------------------------------------


def test_to_string(gpt2: HookedTransformer) -> None:
    assert gpt2.to_string(15496) == "Hello"
    assert gpt2.to_string([15496, 995]) == "Hello world"
    assert gpt2.to_string(torch.tensor([15496, 995])) == "Hello world"
    assert gpt2.to_string(np.array([15496, 995])) == "Hello world"
    assert gpt2.to_string(torch.tensor([[15496], [995]])) == ["Hello", " world"]
    assert gpt2.to_string([[BOS]]) == ["<|endoftext|>"]


@pytest.mark.parametrize("text", ["Hello , world !", "a  b\n\tc", " lead", "trail ", "é 漢字 🙂"])
def test_text_survives(text: str, gpt2: HookedTransformer) -> None:
    """Spaces before punctuation are kept (no clean-up)."""
    tokens = gpt2.to_tokens(text, prepend_bos=False)
    assert gpt2.to_string(tokens[0]) == text


def test_to_str_tokens(gpt2: HookedTransformer) -> None:
    expected = ["<|endoftext|>", "Hello", " world"]
    tokens = gpt2.to_tokens("Hello world")
    assert gpt2.to_str_tokens("Hello world") == expected
    assert gpt2.to_str_tokens("Hello world", prepend_bos=False) == expected[1:]
    assert gpt2.to_str_tokens(tokens) == expected
    assert gpt2.to_str_tokens(tokens[0]) == expected
    assert gpt2.to_str_tokens(tokens[0].numpy()) == expected
    assert gpt2.to_str_tokens(tokens[0].tolist()) == expected
    assert gpt2.to_str_tokens(["Hello world", "Hello"]) == [expected, expected[:2]]
    assert gpt2.to_str_tokens(torch.cat([tokens, tokens])) == [expected, expected]
    assert gpt2.to_str_tokens(tokens[0, 1]) == ["Hello"]


def test_str_tokens_of_every_byte_level_token(gpt2: HookedTransformer) -> None:
    """This tokenizer strips nothing, so a token's text is what it decodes to."""
    rng = np.random.default_rng(0)
    ids = [*rng.choice(50257, 2000, replace=False).tolist(), 21253, 35050, 42062, 47490, 222]
    wrong = [i for i in ids if gpt2.to_single_str_token(i) != gpt2.tokenizer.decode([i])]
    assert wrong == []


def test_str_tokens_keep_leading_spaces(llama: HookedTransformer) -> None:
    """`decode` strips the space that begins a text; a token in it has one."""
    parts = llama.to_str_tokens("Once upon a time, Lily")
    assert parts[0] == "<s>"
    assert " Lily" in parts
    assert "".join(parts[1:]) == " Once upon a time, Lily"


def test_str_tokens_follow_the_tokenizer(
    tokenizers: Callable[[str], Any], llama: HookedTransformer
) -> None:
    gpt2 = _model(tokenizers("gpt2"))
    gpt2.to_str_tokens(torch.tensor([100, 200]))
    gpt2.tokenizer = llama.tokenizer
    assert gpt2.to_str_tokens(torch.tensor([100, 200])) == llama.to_str_tokens(
        torch.tensor([100, 200])
    )


def test_processed_model_reads_and_writes_text(llama: HookedTransformer) -> None:
    processed = llama.process_weights()
    text = "Once upon a time"
    assert processed.to_str_tokens(text) == llama.to_str_tokens(text)
    assert processed.to_single_token(" Lily") == llama.to_single_token(" Lily")


def test_to_single_token(gpt2: HookedTransformer, llama: HookedTransformer) -> None:
    assert gpt2.to_single_token("Hello") == 15496
    assert gpt2.to_single_token(" world") == 995
    assert gpt2.to_single_token("<|endoftext|>") == BOS
    lily = llama.to_single_token(" Lily")
    assert llama.to_single_str_token(lily) == " Lily"


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_single_tokens_round_trip(name: str, request: pytest.FixtureRequest) -> None:
    """A token's text leads back to it, or to one with the same text."""
    model = request.getfixturevalue(name)
    step = model.cfg.d_vocab // 250 + 1
    for token in range(3, model.cfg.d_vocab, step):
        text = model.to_single_str_token(token)
        if "\ufffd" in text or text == "":
            continue
        try:
            back = model.to_single_token(text)
        except InputError:
            # No text is tokenized to this one.
            for anchor in ("", "a", ".", " "):
                assert token not in model.to_tokens(anchor + text, prepend_bos=False)[0].tolist()
            continue
        assert model.to_single_str_token(back) == text, token


def test_get_token_position(gpt2: HookedTransformer) -> None:
    text = "a cat sat on a cat"
    assert gpt2.get_token_position(" cat", text) == 2
    assert gpt2.get_token_position(" cat", text, mode="last") == 6
    assert gpt2.get_token_position(" cat", text, prepend_bos=False) == 1
    tokens = gpt2.to_tokens(text)
    cat = gpt2.to_single_token(" cat")
    assert gpt2.get_token_position(cat, tokens) == 2
    assert gpt2.get_token_position(cat, tokens[0]) == 2
    assert gpt2.get_token_position(" cat", tokens[0], mode="last") == 6
    assert gpt2.get_token_position(BOS, text) == 0


def test_tokens_to_residual_directions(gpt2: HookedTransformer) -> None:
    column = gpt2.W_U[:, 995]
    assert torch.equal(gpt2.tokens_to_residual_directions(" world"), column)
    assert torch.equal(gpt2.tokens_to_residual_directions(995), column)
    assert torch.equal(gpt2.tokens_to_residual_directions(torch.tensor([995])), column)
    many = gpt2.tokens_to_residual_directions(torch.tensor([[995, 1], [2, 3], [4, 5]]))
    assert many.shape == (3, 2, 8)
    assert torch.equal(many[0, 0], column)
    assert torch.equal(many[2, 1], gpt2.W_U[:, 5])


# --- running on text -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prepend_bos", "name", "side"), covering([True, False], ["gpt2", "llama"], ["left", "right"])
)
def test_texts_of_a_batch_are_themselves(
    side: Any,
    name: str,
    prepend_bos: bool,
    in_fp64: Callable[[str], HookedTransformer],
    assert_close: Callable[..., None],
) -> None:
    model = in_fp64(name)
    texts = ["Once upon a time there was a cat", "Lily", "One day, she"]
    logits = model(texts, prepend_bos=prepend_bos, padding_side=side)
    losses = model(texts, "loss", loss_per_token=True, prepend_bos=prepend_bos, padding_side=side)
    for i, text in enumerate(texts):
        alone = model(text, prepend_bos=prepend_bos)[0]
        n = len(alone)
        place = slice(0, n) if side == "right" else slice(logits.shape[1] - n, None)
        assert_close(logits[i, place], alone, text)
        if n > 1:
            loss_alone = model(text, "loss", loss_per_token=True, prepend_bos=prepend_bos)
            assert_close(losses[i].sum(), loss_alone.sum(), f"loss of {text}")


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("prepend_bos", [True, False])
def test_left_padded_tokens_make_their_own_mask(
    name: str,
    prepend_bos: bool,
    in_fp64: Callable[[str], HookedTransformer],
    monkeypatch: pytest.MonkeyPatch,
    assert_close: Callable[..., None],
) -> None:
    """Tokens that `to_tokens` padded are recognised, as TransformerLens does it."""
    model = in_fp64(name)
    monkeypatch.setattr(model.tokenizer, "padding_side", "left")
    texts = ["Once upon a time there was a cat", "Lily"]
    tokens = model.to_tokens(texts, prepend_bos=prepend_bos)
    logits = model(tokens, prepend_bos=prepend_bos)
    alone = model("Lily", prepend_bos=prepend_bos)[0]
    assert_close(logits[1, -len(alone) :], alone)


def test_long_text_on_learned_positions(gpt2: HookedTransformer) -> None:
    """A text is read whole or refused; `to_tokens` cuts it."""
    with pytest.raises(InputError, match="n_ctx"):
        gpt2(" a" * 100)
    assert gpt2(gpt2.to_tokens(" a" * 100)).shape[1] == 64
