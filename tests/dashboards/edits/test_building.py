"""From the notation to interventions, against hooks written by hand."""

from __future__ import annotations

import re

import pytest
import torch

from dashboards.edits import parse, plan, python_of
from dashboards.edits.building import shuffled
from interp import InputError
from interp.interventions import (
    Interventions,
    KnockOutEdge,
    Noise,
    Reference,
    ShiftPositions,
    ShufflePositions,
    SwapPositions,
    ZeroPositions,
    applied,
)
from interp.interventions import Place as LibraryPlace

TOKENS, OTHER = [1, 5, 9, 7, 5, 3], [1, 6, 8, 7, 5, 4]


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def caches(model):
    """Every activation of the two prompts."""
    with torch.no_grad():
        return [model.run_with_cache(torch.tensor([row]))[1] for row in (TOKENS, OTHER)]


def after(model, text, tokens=TOKENS, other=OTHER):
    with torch.no_grad(), applied(model, plan(text, model, tokens, other)):
        return model(torch.tensor([tokens]))


def by_hand(model, hook, change):
    def edit(x, hook):
        x = x.clone()
        change(x)
        return x

    with torch.no_grad():
        return model.run_with_hooks(torch.tensor([TOKENS]), fwd_hooks=[(hook, edit)])


def put(index, value):
    def change(x):
        x[index] = value(x) if callable(value) else value

    return change


CASES = {
    "zero:L0H3": ("blocks.0.attn.hook_z", lambda a, b, m: put(np_s[:, :, 3], 0.0)),
    "zero:L1N2,5@-1": ("blocks.1.mlp.hook_post", lambda a, b, m: put(np_s[:, -1, [2, 5]], 0.0)),
    "mean:L1MLP": (
        "blocks.1.hook_mlp_out",
        lambda a, b, m: put(np_s[:], lambda x: x.mean(1, keepdim=True)),
    ),
    "mean(other):L1.attn@0-2": (
        "blocks.1.hook_attn_out",
        lambda a, b, m: put(np_s[:, :3], b["blocks.1.hook_attn_out"].mean(1, keepdim=True)),
    ),
    "mean(both):L0H1": (
        "blocks.0.attn.hook_z",
        lambda a, b, m: put(
            np_s[:, :, 1],
            torch.cat([a["z", 0], b["z", 0]], 1).mean(1, keepdim=True)[:, :, 1],
        ),
    ),
    "patch:L1.resid_pre@4": (
        "blocks.1.hook_resid_pre",
        lambda a, b, m: put(np_s[:, 4], b["resid_pre", 1][:, 4]),
    ),
    "patch:L1H2@3<1": (
        "blocks.1.attn.hook_pattern",
        lambda a, b, m: put(np_s[:, 2, 3, 1], b["pattern", 1][:, 2, 3, 1]),
    ),
    "scale:L1H2.q@1-2*-0.5": (
        "blocks.1.attn.hook_q",
        lambda a, b, m: put(np_s[:, 1:3, 2], lambda x: x[:, 1:3, 2] * -0.5),
    ),
    "mask:L1H2@5<3": (
        "blocks.1.attn.hook_attn_scores",
        lambda a, b, m: put(np_s[:, 2, 5, 3], -torch.inf),
    ),
    "zero:L1H2@*<0": (
        "blocks.1.attn.hook_pattern",
        lambda a, b, m: put(np_s[:, 2, :, 0], 0.0),
    ),
    "steer:L1.resid_post@-1+8*unembed(7)": (
        "blocks.1.hook_resid_post",
        lambda a, b, m: put(np_s[:, -1], lambda x: x[:, -1] + 8 * m.W_U[:, 7]),
    ),
    "steer:embed@2+-2*embed(7)": (
        "hook_embed",
        lambda a, b, m: put(np_s[:, 2], lambda x: x[:, 2] - 2 * m.W_E[7]),
    ),
    "steer:L0.resid_post+50%*contrast": (
        "blocks.0.hook_resid_post",
        lambda a, b, m: put(
            np_s[:], lambda x: _along(x, (b["resid_post", 0] - a["resid_post", 0]).mean(1)[0])
        ),
    ),
    "steer:L1H2+1.5*contrast(-2)": (
        "blocks.1.attn.hook_z",
        lambda a, b, m: put(
            np_s[:, :, 2], lambda x: x[:, :, 2] + 1.5 * (b["z", 1] - a["z", 1])[:, -2, 2]
        ),
    ),
}


def _along(x, direction):
    return x + 0.5 * x.norm(dim=-1, keepdim=True) * direction / direction.norm()


class _Slices:
    def __getitem__(self, index):
        return index


np_s = _Slices()


@pytest.mark.parametrize("text", CASES)
def test_logits_are_those_of_hooks_by_hand(model, caches, assert_close, text):
    hook, change = CASES[text]
    expected = by_hand(model, hook, change(*caches, model))
    unedited = model(torch.tensor([TOKENS]))
    assert (expected - unedited).abs().max() > 1e-3
    assert_close(after(model, text), expected, text, tolerance=1e-6)


def test_resample_takes_the_prompt_in_another_order(model, assert_close):
    order = shuffled(TOKENS, 3, both_ways=False)
    assert order[0] == TOKENS[0] and sorted(order) == sorted(TOKENS) and order != TOKENS
    assert order != shuffled(TOKENS, 4, both_ways=False)
    ends = shuffled(TOKENS, 3, both_ways=True)
    assert (ends[0], ends[-1]) == (TOKENS[0], TOKENS[-1])
    assert shuffled([5], 0, both_ways=True) == [5]
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([order]))
    expected = by_hand(model, "blocks.0.attn.hook_z", put(np_s[:, 4, 1], cache["z", 0][:, 4, 1]))
    assert_close(after(model, "resample(3):L0H1@4"), expected, tolerance=1e-6)


def test_hold_keeps_what_the_unedited_run_has(model, caches, assert_close):
    clean = caches[0]

    def held(x, hook):
        return clean["pattern", 1]

    def zeroed(x, hook):
        return x * 0

    with torch.no_grad():
        expected = model.run_with_hooks(
            torch.tensor([TOKENS]),
            fwd_hooks=[("blocks.0.hook_mlp_out", zeroed), ("blocks.1.attn.hook_pattern", held)],
        )
    assert_close(after(model, "zero:L0MLP;hold:L1H*.pattern"), expected, tolerance=1e-6)
    assert (after(model, "zero:L0MLP") - expected).abs().max() > 1e-3


def test_what_the_library_names_itself(model):
    this = Reference([TOKENS])
    expected = {
        "zero:L0H1>L1H3.k": KnockOutEdge("L0H1->L1H3.k"),
        "mean:L0MLP>logits": KnockOutEdge("L0MLP->logits", "mean", this, pooled=True),
        "hold:embed>L1MLP": KnockOutEdge("embed->L1MLP", "patch", this),
        "patch:embed>L1MLP": KnockOutEdge("embed->L1MLP", "patch", Reference([OTHER])),
        "noise(2):embed+3": Noise(LibraryPlace("hook_embed"), 3.0, this, 2),
        "zero:positions@0-1": ZeroPositions((0, 1)),
        "shift:positions@4+-1": ShiftPositions(-1, 4),
        "swap:positions@5,3": SwapPositions(5, 3),
        "shuffle(9):positions": ShufflePositions(seed=9),
    }
    for text, intervention in expected.items():
        assert plan(text, model, TOKENS, OTHER) == (intervention,), text
    every = plan(";".join(expected), model, TOKENS, OTHER)
    assert Interventions(every) == Interventions(tuple(expected.values()))


def test_the_script_makes_the_same_plan(model):
    text = ";".join([*CASES, "resample(3):L0H1@4", "hold:L1H*.pattern", "noise:embed+3",
                     "mean(both):L0MLP>logits", "swap:positions@5,3"])  # fmt: skip
    code = python_of(text, TOKENS)
    assert "dashboards" not in code
    scope = {
        "model": model,
        "tokens": torch.tensor([TOKENS]),
        "other_tokens": torch.tensor([OTHER]),
    }
    exec(code, scope)
    assert scope["plan"] == plan(text, model, TOKENS, OTHER)
    exec(python_of("", TOKENS), scope)
    assert scope["plan"] == () == plan("", model, TOKENS)


def test_both_sides_of_an_encoder_decoder(make_model, assert_close):
    model = make_model(architecture="encoder-decoder", n_encoder_layers=2)
    decoder = [0, 4, 8]
    given = {"input": torch.tensor([TOKENS]), "decoder_input": torch.tensor([decoder])}
    with torch.no_grad():
        _, other = model.run_with_cache(torch.tensor([OTHER]), decoder_input=given["decoder_input"])
    cases = {
        "zero:L1C2@-1": ("decoder.blocks.1.cross_attn.hook_z", put(np_s[:, 2, 2], 0.0)),
        "zero:encoder.L0H1": ("encoder.blocks.0.attn.hook_z", put(np_s[:, :, 1], 0.0)),
        "zero:embed@1": ("decoder.hook_embed", put(np_s[:, 1], 0.0)),
        "mask:L0C1@2<5": (
            "decoder.blocks.0.cross_attn.hook_attn_scores", put(np_s[:, 1, 2, 5], -torch.inf),
        ),
        "patch:encoder.L1.resid_pre@4": (
            "encoder.blocks.1.hook_resid_pre",
            put(np_s[:, 4], other["encoder.blocks.1.hook_resid_pre"][:, 4]),
        ),
    }  # fmt: skip
    for text, (hook, change) in cases.items():

        def edit(x, hook, change=change):
            x = x.clone()
            change(x)
            return x

        made = plan(text, model, TOKENS, OTHER, decoder)
        with torch.no_grad():
            expected = model.run_with_hooks(**given, fwd_hooks=[(hook, edit)])
            with applied(model, made, **given):
                assert_close(model(**given), expected, text, tolerance=1e-6)
        tensors = {"tokens": given["input"], "other_tokens": torch.tensor([OTHER])}
        scope = {"model": model, **tensors, "decoder_tokens": given["decoder_input"]}
        exec(python_of(text, TOKENS, decoder), scope)
        assert scope["plan"] == made
    with pytest.raises(InputError, match="sources lie in -6 … 5"):
        plan("mask:L0C1@2<6", model, TOKENS, OTHER, decoder)
    with pytest.raises(InputError, match="positions lie in -3 … 2"):
        plan("zero:L0C1@3", model, TOKENS, OTHER, decoder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zero:L9H0", "layers must lie in"),
        ("zero:L0H9", "heads of blocks.0.attn.hook_z must lie in"),
        ("zero:L0H0@6", "positions lie in -6 … 5 here. Received 6 in zero:L0H0@6"),
        ("zero:positions@6", "positions lie in -6 … 5"),
        ("zero:L0C0", "cross_attn"),
        ("zero:L0H0>L9H0.q", "no receiver"),
        ("mean:L0H0.pattern", "cannot be pooled"),
        ("steer:L1.resid_post+1*unembed(99)", "a token must lie in 0 … 30"),
        ('steer:L1.resid_post+1*unembed("a")', "no tokenizer"),
        ("steer:L*.resid_post+1*contrast", "at one hook"),
    ],
)  # fmt: skip
def test_what_a_model_or_prompt_lacks_is_told(model, text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        plan(text, model, TOKENS, OTHER)


@pytest.mark.parametrize(
    ("text", "other", "message"),
    [
        ("patch:L0H0", None, "needs a second prompt: type one at the side"),
        ("mean(both):L0H0", None, "needs a second prompt"),
        ("steer:L1.resid_post+1*contrast", None, "needs a second prompt"),
        ("patch:L0H0", [1, 2], "two prompts of as many tokens. These are 6 and 2"),
    ],
)
def test_a_second_prompt_that_is_not_there_is_told(model, text, other, message):
    with pytest.raises(InputError, match=message):
        plan(text, model, TOKENS, other)


def test_numbers_of_a_text_stand_in_its_parts():
    (edit,) = parse("zero:L0-1,3H2@-2--1")
    assert edit.place.layers == (0, 1, 3) and edit.place.positions == (-2, -1)
