"""The notation of interventions: what is written is read again, and what breaks a rule is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from dashboards.edits import (
    MAX_EDITS,
    MAX_LENGTH,
    Direction,
    Edge,
    Edit,
    Entries,
    Positions,
    parse,
    written,
)
from interp import InputError
from tests.covering import examples

EXAMPLES = {
    "zero:L0H3": Edit("zero", Entries("z", (0,), (3,))),
    "zero:L0-2H*": Edit("zero", Entries("z", (0, 1, 2), None)),
    "mean:L1MLP": Edit("mean", Entries("MLP", (1,))),
    "mean(both):L1.attn@0,2,5-7": Edit(
        "mean", Entries("attn", (1,), positions=(0, 2, 5, 6, 7)), "both"
    ),
    "resample(7):L2H1@4": Edit("resample", Entries("z", (2,), (1,), positions=(4,)), seed=7),
    "zero:L0H0@-1,0": Edit("zero", Entries("z", (0,), (0,), positions=(-1, 0))),
    "patch:L3.resid_pre@-3--1": Edit("patch", Entries("resid_pre", (3,), positions=(-3, -2, -1))),
    "hold:L*C0.pattern": Edit("hold", Entries("pattern", None, (0,), crosses=True)),
    "hold:encoder.L1H0.k": Edit("hold", Entries("k", (1,), (0,), encoder=True)),
    "scale:L1H**-0.5": Edit("scale", Entries("z", (1,), None), amount=-0.5),
    "zero:L2N17": Edit("zero", Entries("neurons", (2,), (17,))),
    "noise(3):embed@2-4+0.5": Edit("noise", Entries("embed", positions=(2, 3, 4)), "this", 3, 0.5),
    "mask:L1H2@7<3": Edit("mask", Entries("pattern", (1,), (2,), positions=(7,), sources=(3,))),
    "zero:L1H2@*<0": Edit("zero", Entries("pattern", (1,), (2,), sources=(0,))),
    "zero:L0H1>L2H3.k": Edit("zero", Edge("L0H1", "L2H3.k")),
    "mean(other):embed>logits": Edit("mean", Edge("embed", "logits"), "other"),
    "zero:positions@0": Edit("zero", Positions(None, (0,))),
    "shift:L0-1.positions@4+-2": Edit("shift", Positions((0, 1), (4,)), amount=-2),
    "swap:positions@5,3": Edit("swap", Positions(None, (5, 3))),
    "shuffle(2):positions": Edit("shuffle", Positions(), seed=2),
    'steer:L4.resid_post@-1+8*unembed("; Paris\\"+1")': Edit(
        "steer", Entries("resid_post", (4,), positions=(-1,)), "this", 0, 8, False,
        Direction("unembed", '; Paris"+1'),
    ),
    "steer:L4.resid_post+50%*contrast(-1)": Edit(
        "steer", Entries("resid_post", (4,)), "this", 0, 50, True, Direction("contrast", None, -1)
    ),
    "steer:embed+-1.5*embed(7)": Edit(
        "steer", Entries("embed"), "this", 0, -1.5, False, Direction("embed", 7)
    ),
}  # fmt: skip


def test_examples_are_read_and_written_again():
    for text, edit in EXAMPLES.items():
        assert parse(text) == (edit,), text
        assert str(edit) == text
    together = "; ".join(EXAMPLES)
    assert parse(together) == tuple(EXAMPLES.values())
    assert written(parse(together)) == ";".join(EXAMPLES)


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        (" zero : L0H3 @ 4 ;; ", "zero:L0H3@4"),
        ("zero:L0.mlp", "zero:L0MLP"),
        ("zero:L0.mlp>L1.mlp", "zero:L0MLP>L1MLP"),
        ("zero:decoder.L0H1", "zero:L0H1"),
        ("zero:L0H1.z@3,4,5", "zero:L0H1@3-5"),
        ("zero:L0H1@*", "zero:L0H1"),
        ("mask:L0H1@2", "mask:L0H1.pattern@2"),
        ("mean(this):embed", "mean:embed"),
        ("scale:L0H1*2.0", "scale:L0H1*2"),
        ("", ""),
    ],
)
def test_several_ways_to_write_one_thing(text, usual):
    assert written(parse(text)) == usual


numbers = some.one_of(
    some.none(),
    some.lists(some.integers(0, 30), min_size=1, max_size=5).map(tuple),
)
positions = some.one_of(
    some.none(), some.lists(some.integers(-9, 30), min_size=1, max_size=5).map(tuple)
)
heads = some.builds(
    Entries, some.sampled_from(["z", "q", "k", "v", "pattern"]), numbers, numbers,
    some.booleans(), some.just(False), positions,
)  # fmt: skip
others = some.builds(
    Entries, some.sampled_from(["MLP", "attn", "resid_pre", "resid_mid", "resid_post"]), numbers,
    some.none(), some.just(False), some.booleans(), positions,
)  # fmt: skip
links = some.builds(
    Entries, some.just("pattern"), numbers, numbers, some.just(False), some.booleans(), positions,
    some.lists(some.integers(-9, 30), min_size=1).map(tuple),
)  # fmt: skip
entries = some.one_of(heads, others, links)
amounts = some.floats(allow_nan=False, allow_infinity=False)
directions = some.one_of(
    some.builds(
        Direction,
        some.just("contrast"),
        some.none(),
        some.one_of(some.none(), some.integers(-9, 9)),
    ),
    some.builds(
        Direction,
        some.sampled_from(["unembed", "embed"]),
        some.one_of(some.integers(0, 99), some.text(min_size=1).filter(str.isprintable)),
    ),
)
edits = some.one_of(
    some.builds(Edit, some.just("zero"), entries),
    some.builds(Edit, some.just("mean"), entries, some.sampled_from(["this", "other", "both"])),
    some.builds(Edit, some.just("resample"), entries, some.just("this"), some.integers(0, 99)),
    some.builds(Edit, some.just("scale"), entries, amount=amounts),
    some.builds(Edit, some.just("shift"), some.builds(Positions, numbers, positions),
                amount=some.integers(-99, 99)),
    some.builds(Edit, some.just("steer"), others, some.just("this"), some.just(0), amounts,
                some.booleans(), directions),
)  # fmt: skip


@settings(deadline=None, max_examples=examples(60))
@given(some.lists(edits, max_size=4).map(tuple))
def test_what_is_written_is_read_again(given):
    text = written(given)
    if len(text) <= MAX_LENGTH:
        assert parse(text) == given


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zap:L0H3", "unknown edit 'zap'"),
        ("zero", "written such as zero:L0H3"),
        ("zero:L0", "a place is written L0H3"),
        ("zero:L0H3.w", "parts of a head are z, q, k, v, pattern"),
        ("zero:L0N3.z", "a neuron has no parts"),
        ("zero:L-1H3", "layers are counted from 0"),
        ("zero:L3-1H0", "leads up and not across zero"),
        ("zero:L0H0@-2-1", "leads up and not across zero"),
        ("zero:L0H0@0-512", "512 at most"),
        ("zero:L0H3@", "positions are written @3"),
        ("zero:L0H3@4<", "positions are written @3"),
        ("zero:L0MLP@4<2", "only heads have links"),
        ("zero:encoder.L0C3", "no cross-attention"),
        ("mask:L0H3.q", "mask cuts links of heads"),
        ("mask:L0H1>L1H0.q", "mask acts on activations"),
        ("scale:L0H3", "scale:L1H2*0.5"),
        ("scale:L0H3*1e999", "a number is finite"),
        ("scale:positions*2", "scale acts on activations"),
        ("noise:embed+-1", "noise is above 0"),
        ("shift:positions+0.5", "whole numbers"),
        ("shift:positions+1e300", "shifted by 100000 at most"),
        ("shift:L0H3+1", "shift acts on positions"),
        ("swap:positions@3", "swap takes two positions"),
        ("zero(3):L0H3", "zero takes nothing in brackets"),
        ("mean(all):L0H3", "this, other or both"),
        ("resample(x):L0H3", "a seed"),
        ("steer:L0.resid_pre+1*unembed", "a token is wanted"),
        ("steer:L0.resid_pre+1*unembed(-1)", "ids count from 0"),
        ('steer:L0.resid_pre+1*unembed("")', "a token is wanted"),
        ('steer:L0.resid_pre+1*embed("\\q")', "text as in JSON"),
        ('steer:L0.resid_pre+1*contrast("a")', "a contrast is at a position"),
        ('steer:L0.resid_pre+1*unembed(" Par', "two double quotes"),
        ("steer:L0.resid_pre*8", "written such as steer:"),
        ("zero:<script>", "an edge is written L0H1>L2H3.k"),
        ("zero:L0H3>", "an edge is written"),
        (";".join(["zero:L0H3"] * (MAX_EDITS + 1)), "32 at most"),
        ("z" * (MAX_LENGTH + 1), "2000 characters at most"),
    ],
)
def test_what_breaks_a_rule_is_told(text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse(text)


def test_the_guides_examples_are_in_the_notation():
    guide = Path(__file__).parents[3] / "docs" / "dashboard.md"
    examples = re.findall(r"^([a-z]+:\S+)\s{2,}", guide.read_text(encoding="utf-8"), re.M)
    assert len(examples) >= 5
    for example in examples:
        assert written(parse(example)) == example
