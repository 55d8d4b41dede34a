import pytest

from interp.zoo.known.words import make_tokenizer, symbols


@pytest.mark.parametrize("n", [1, 26, 52, 60])
def test_symbols_are_different(n):
    assert len(symbols(n)) == len(set(symbols(n))) == n


def test_the_tokenizer_knows_these_words_alone():
    pytest.importorskip("transformers", reason="needs the extra 'hf'")
    tokenizer = make_tokenizer(["a", "t52", "balanced?", "("])
    assert tokenizer("( a\n t52 balanced?")["input_ids"] == [3, 0, 1, 2]
    with pytest.raises(Exception, match="UNK"):
        tokenizer("b")
