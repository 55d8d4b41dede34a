import pytest
import torch

from analyses import run_analysis
from analyses.base import Analysis
from analyses.inputs.pairs import PairParams, TakesPairs, pairs_table, resolve_pairs
from dashboards.settings import parse_settings
from interp import InputError, load_model, zoo
from interp.zoo.recipes.analysis_defaults import PAIR_ANALYSES

pytest.importorskip("tokenizers", reason="needs the extra 'hf'")

TOKENS = {"clean_tokens": [3, 1, 4, 1], "corrupted_tokens": [3, 2, 4, 1]}
ANSWERS = {"right": 5, "wrong": 6}


@pytest.fixture(scope="module")
def induction():
    return load_model("zoo:induction", device="cpu")


def of(**settings):
    return PairParams.model_validate(settings)


def test_one_value_is_a_list_of_one():
    params = of(clean="a b", corrupted=["a c"], clean_tokens=[1, 2], right=7, wrong="#8")
    assert params.clean == ["a b"] and params.corrupted == ["a c"]
    assert params.clean_tokens == [[1, 2]]
    assert params.right == [7] and params.wrong == ["#8"]
    assert of(clean="", right=[]).clean == [] == of().right
    assert of(clean_tokens=[[1, 2], [3, 4]]).clean_tokens == [[1, 2], [3, 4]]
    # As it is recorded it can be given again.
    assert PairParams.model_validate(params.model_dump(mode="json")) == params


@pytest.mark.parametrize(
    ("typed", "clean"),
    [
        ("clean=a b", ["a b"]),
        ("clean=(())", ["(())"]),
        ('clean=["a b", "a c"]', ["a b", "a c"]),
        ("clean=", []),
        ("clean=null", ["null"]),
    ],
)
def test_the_command_line_reads_them(typed, clean):
    assert of(**parse_settings(PairParams, [typed])).clean == clean


def test_answers_on_the_command_line():
    typed = ['right=["Z", "#5"]', "wrong=7", "clean_tokens=[[1, 2]]", "corrupted_tokens=[1, 3]"]
    params = of(**parse_settings(PairParams, typed))
    assert (params.right, params.wrong) == (["Z", "#5"], ["7"])
    assert (params.clean_tokens, params.corrupted_tokens) == ([[1, 2]], [[1, 3]])


def test_texts_are_tokenized_as_the_model_was_made_for(induction):
    params = of(clean=["kT4", "abc"], corrupted=["kZ4", "abd"], right="Z", wrong=["a", "#9"])
    pairs = resolve_pairs(induction, params)
    assert torch.equal(pairs.clean, induction.to_tokens(["kT4", "abc"]))
    assert torch.equal(pairs.corrupted, induction.to_tokens(["kZ4", "abd"]))
    assert pairs.texts == ["<bos>", "k", "T", "4"]
    assert pairs.labels == ["<bos>", "k", "T→Z", "4"]
    z, a = (induction.to_single_token(each) for each in "Za")
    assert (pairs.right.tolist(), pairs.wrong.tolist()) == ([z, z], [a, 9])
    assert (pairs.n_pairs, pairs.n_pos, pairs.position) == (2, 4, 3)
    assert pairs.quantity == (
        "logit of the right answer less that of the wrong one, mean over 2 pairs"
    )
    logits = induction(pairs.clean).detach()
    expected = torch.stack(
        [logits[0, -1, z] - logits[0, -1, a], logits[1, -1, z] - logits[1, -1, 9]]
    )
    assert torch.equal(pairs.metric.per_prompt(logits), expected)


def test_bos_and_position(induction):
    params = of(clean="kT4", corrupted="kZ4", right="Z", wrong="a", position=-2, prepend_bos=False)
    pairs = resolve_pairs(induction, params)
    assert pairs.texts == ["k", "T", "4"] and pairs.position == 1
    logits = induction(pairs.clean).detach()
    z, a = (induction.to_single_token(each) for each in "Za")
    assert pairs.metric(logits) == logits[0, 1, z] - logits[0, 1, a]
    assert pairs.quantity == "logit of “Z” less that of “a”"


def test_top_predictions_are_the_answers_by_default(make_model):
    model = make_model(dtype="float64")
    model.eval()
    rows = {"clean_tokens": [[3, 1, 4, 1], [5, 9, 2, 6]], "corrupted_tokens": [[3, 1, 4, 2]] * 2}
    pairs = resolve_pairs(model, of(**rows, position=2, wrong=30))
    top = model(torch.tensor(rows["clean_tokens"]))[:, 2].argmax(-1)
    assert torch.equal(pairs.right, top)
    assert pairs.wrong.tolist() == [30, 30]
    with pytest.raises(InputError, match="must differ in every pair: give both"):
        # Position 2 of a causal model does not see what differs at position 3.
        resolve_pairs(
            model, of(clean_tokens=[3, 1, 4, 1], corrupted_tokens=[3, 1, 4, 2], position=2)
        )


def test_a_classifier_is_read_once_for_each_prompt():
    model = load_model("zoo:brackets", device="cpu")
    pairs = resolve_pairs(model, of(clean="(())", corrupted="(()(", wrong="#0"))
    assert (pairs.right.tolist(), pairs.wrong.tolist(), pairs.position) == ([1], [0], 0)
    logits = model(pairs.clean).detach()
    assert logits.shape == (1, 2)
    assert pairs.metric.per_prompt(logits) == logits[0, 1] - logits[0, 0]
    with pytest.raises(InputError, match="position has no meaning for a classifier"):
        resolve_pairs(model, of(clean="(())", corrupted="(()(", position=2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"give the clean prompts as clean \(texts\) or as clean_tokens"),
        ({"clean_tokens": [1, 2]}, "give the corrupted prompts"),
        (TOKENS | ANSWERS | {"clean": "a"}, "not both"),
        (TOKENS | ANSWERS | {"clean_tokens": []}, "give the clean prompts"),
        (TOKENS | {"clean_tokens": [[1, 2], []]}, "empty prompt"),
        (TOKENS | {"clean_tokens": [[1, 2, 3, 4]] * 2}, "one corrupted prompt for each clean one"),
        (TOKENS | {"clean_tokens": [1, 2, 3]}, "same number of tokens"),
        (TOKENS | {"clean_tokens": [1, 2, 3, 31]}, "0 … 30. Received 31"),
        (TOKENS | {"clean_tokens": [1, 2, 3, -1]}, "0 … 30. Received -1"),
        (TOKENS | {"right": [5, 5], "wrong": 6}, "right must be one answer, or one for each of 1"),
        (TOKENS | {"right": 31, "wrong": 6}, "0 … 30"),
        (TOKENS | {"right": 6, "wrong": 6}, "must differ"),
        (TOKENS | ANSWERS | {"position": 4}, "-4 … 3"),
        (TOKENS | ANSWERS | {"prepend_bos": False}, "prepend_bos has no meaning for tokens"),
        ({"clean": "a", "corrupted": "b"}, "tokenizer"),
    ],
)
def test_bad_pairs_are_told(make_model, settings, message):
    with pytest.raises(InputError, match=message):
        resolve_pairs(make_model(), of(**settings))


class _Analysis(TakesPairs, Analysis[PairParams]):
    def run(self, model, params):
        raise NotImplementedError


def test_given_prompts_take_the_place_of_the_default_pairs():
    defaults = {"clean": ["a"], "corrupted": ["b"], "right": ["c"], "position": 3, "other": 1}
    merged = _Analysis.merged
    assert _Analysis.Params is PairParams
    assert merged(defaults, {}) == defaults
    assert merged(defaults, {"position": 2})["clean"] == ["a"]
    assert merged(defaults, {"right": "d"}) == {**defaults, "right": "d"}
    given = {"clean_tokens": [[1]], "corrupted_tokens": [[2]]}
    assert merged(defaults, given) == {"other": 1, **given}
    assert merged(defaults, {"clean": "x"}) == {"other": 1, "clean": "x"}


def test_given_prompts_are_those_that_are_run(induction):
    given = {"clean": "abcab", "corrupted": "acbab", "right": "c", "wrong": "d"}
    result = run_analysis("activation-patching", induction, quick=True, **given)
    assert result.provenance.tokens == [
        induction.to_tokens(given[name])[0].tolist() for name in ("clean", "corrupted")
    ]


def test_the_table_says_both_values(induction):
    pairs = resolve_pairs(induction, of(clean="kT4", corrupted="kZ4", right="Z", wrong="a"))
    table = pairs_table(induction, pairs, torch.tensor([2.0]), torch.tensor([-1.0]))
    (row,) = table.to_dict("records")
    assert (row["clean"], row["corrupted"]) == ("<bos> k T 4", "<bos> k Z 4")
    assert (row["right"], row["wrong"], row["position"]) == ("“Z”", "“a”", 3)
    assert (row["clean_value"], row["corrupted_value"]) == (2.0, -1.0)


def test_the_table_says_where_the_model_does_not_tell_them_apart(induction):
    pairs = resolve_pairs(
        induction, of(clean=["kT4"] * 4, corrupted=["kZ4"] * 4, right="Z", wrong="a")
    )
    clean, corrupted = torch.tensor([2.0, 2.0, -2.0, 0.0]), torch.tensor([-1.0, 1.0, -1.0, -1.0])
    table = pairs_table(induction, pairs, clean, corrupted)
    assert table["told_apart"].tolist() == [True, False, False, False]


@pytest.mark.parametrize(("name", "told"), [("copy-none", 0), ("copy-t5", 6)])
def test_a_model_that_has_not_learned_tells_no_pair_apart(name, told):
    result = run_analysis("activation-patching", load_model(f"zoo:{name}", device="cpu"), True)
    assert result.tables["pairs"]["told_apart"].sum() == told


def test_the_table_names_each_pairs_own_quantity(induction):
    """Its values are no means over pairs."""
    params = of(clean=["kT4", "abc"], corrupted=["kZ4", "abd"], right="Z", wrong=["a", "b"])
    pairs = resolve_pairs(induction, params)
    table = pairs_table(induction, pairs, torch.zeros(2), torch.zeros(2))
    assert table["quantity"].tolist() == [
        "logit of “Z” less that of “a”", "logit of “Z” less that of “b”"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["zoo:induction", "zoo:brackets", "zoo:modular-addition"])
def test_the_zoos_pairs_show_what_the_model_can_do(name):
    """The model answers every prompt of its default pairs as they say, and surely."""
    model = load_model(name, device="cpu")
    settings = {str(zoo.defaults(name, each)) for each in PAIR_ANALYSES}
    assert len(settings) == 1
    params = of(**zoo.defaults(name, PAIR_ANALYSES[0]))
    pairs = resolve_pairs(model, params)
    assert pairs.n_pairs >= 4
    tops = resolve_pairs(model, params.model_copy(update={"right": [], "wrong": []}))
    assert torch.equal(tops.right, pairs.right) and torch.equal(tops.wrong, pairs.wrong)
    with torch.no_grad():
        assert pairs.metric.per_prompt(model(pairs.clean)).min() > 5
        assert pairs.metric.per_prompt(model(pairs.corrupted)).max() < -5
