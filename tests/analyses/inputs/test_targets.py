import pytest

from analyses.inputs.targets import resolve_input, resolve_position, resolve_token, token_name
from interp import InputError, load_model

pytest.importorskip("tokenizers", reason="needs the extra 'hf'")


@pytest.fixture(scope="module")
def induction():
    return load_model("zoo:induction", device="cpu")


def test_texts_ids_and_numbers(induction, make_model):
    z = induction.to_single_token("Z")
    assert resolve_token(induction, "Z") == resolve_token(induction, f"#{z}") == z
    assert resolve_token(induction, z) == z
    assert resolve_token(induction, "7") == induction.to_single_token("7") != 7
    assert resolve_token(induction, "#7") == 7
    without = make_model()
    assert resolve_token(without, "7") == resolve_token(without, "#7") == 7


def test_a_classifiers_outputs_are_classes():
    brackets = load_model("zoo:brackets", device="cpu")
    assert [resolve_token(brackets, each) for each in ("#1", "1", 1)] == [1, 1, 1]
    assert token_name(brackets, 1) == "class 1"
    with pytest.raises(InputError, match="outputs are no tokens"):
        resolve_token(brackets, "(")
    with pytest.raises(InputError, match="0 … 1"):
        resolve_token(brackets, "#2")


def test_what_is_read_need_have_no_logit(induction, make_model):
    """A classifier reads tokens, whatever it says of them; some tokens have no output."""
    brackets = load_model("zoo:brackets", device="cpu")
    assert resolve_input(brackets, "(") == brackets.to_single_token("(")
    fewer = make_model(d_vocab_out=13)
    assert [resolve_input(fewer, each) for each in (20, "20", "#20")] == [20] * 3
    with pytest.raises(InputError, match="0 … 12"):
        resolve_token(fewer, 20)
    for token in (31, "#31", -1):
        with pytest.raises(InputError, match=r"a token must lie in 0 … 30"):
            resolve_input(fewer, token)
    with pytest.raises(InputError, match=r"no tokenizer: give a token's id\. Received 'Z'"):
        resolve_input(fewer, "Z")
    assert resolve_input(induction, "7") == induction.to_single_token("7") != 7


def test_names(induction, make_model):
    assert token_name(induction, induction.to_single_token("Z")) == "“Z”"
    assert token_name(make_model(), 7) == "“7”"


@pytest.mark.parametrize("token", ["#64", 64, -1, "#1000000"])
def test_outputs_that_are_not_there(induction, token):
    with pytest.raises(InputError, match="0 … 63"):
        resolve_token(induction, token)


def test_texts_that_are_no_token(induction, make_model):
    with pytest.raises(InputError, match="single token"):
        resolve_token(induction, "ZZ")
    with pytest.raises(InputError, match="no tokenizer: give a token id instead of 'Z'"):
        resolve_token(make_model(), "Z")


@pytest.mark.parametrize(("position", "found"), [(0, 0), (5, 5), (-1, 5), (-6, 0)])
def test_positions(position, found):
    assert resolve_position(position, 6) == found


@pytest.mark.parametrize("position", [6, -7])
def test_positions_that_are_not_there(position):
    with pytest.raises(InputError, match="-6 … 5"):
        resolve_position(position, 6)


@pytest.mark.parametrize("token", ["#" + "9" * 5_000, "9" * 5_000])
def test_an_id_of_thousands_of_digits_is_refused(token, make_model):
    with pytest.raises(InputError):
        resolve_token(make_model(), token)
