from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")

from dashboards.page.subject import Line
from dashboards.views.shared import asked
from interp import InputError

TOP, SECOND, OTHER = 5, 9, 2


class Choosing:
    """Choices whose every box has the option asked for, or its default."""

    def __init__(self, **chosen):
        self.chosen = chosen

    def choice(self, name, label, options, default, show=str, **widget):
        value = self.chosen.get(name, default)
        assert value in options and show(value)
        return value


@pytest.fixture
def subject(make_model, monkeypatch):
    monkeypatch.setattr(asked, "leading_tokens", lambda subject, position: (TOP, SECOND))

    def subject(answer=None, wrong=None, tokens=(3, 1, 4), mask=None, **fields):
        model = SimpleNamespace(
            cfg=make_model(**fields).cfg,
            tokenizer=None if mask is None else SimpleNamespace(mask_token_id=mask),
        )
        line = Line("", tokens, tuple(map(str, tokens)))
        return SimpleNamespace(
            loaded=SimpleNamespace(model=model), predicts=line, answer=answer, wrong=wrong
        )

    return subject


@pytest.mark.parametrize(
    ("answer", "wrong", "expected"),
    [
        (None, None, (TOP, SECOND)),
        (SECOND, None, (SECOND, TOP)),
        (OTHER, None, (OTHER, TOP)),
        (TOP, None, (TOP, SECOND)),
        (None, OTHER, (TOP, OTHER)),
        (SECOND, OTHER, (SECOND, OTHER)),
    ],
)
def test_the_two_tokens(subject, monkeypatch, answer, wrong, expected):
    """What is not typed is the model's own: the answer its prediction, the rival the best other."""
    monkeypatch.setattr(asked, "token_name", lambda model, token: f"#{token}")
    found = asked.ask(subject(answer, wrong), Choosing(), 1, "difference")
    assert found.measure == (*expected, False)
    assert found.quantity == f"logit of #{expected[0]} less that of #{expected[1]}"
    assert found.written == f"{expected[0]}, {expected[1]}, False"
    assert found.at == "at position 1 (“1”)"


def test_other_quantities(subject, monkeypatch):
    monkeypatch.setattr(asked, "token_name", lambda model, token: f"#{token}")
    capped = subject(OTHER, TOP, output_logits_soft_cap=2.0)
    found = asked.ask(capped, Choosing(quantity="logit"), 0, "difference")
    assert found.measure == (OTHER, None, False)
    assert found.quantity == "logit of #2, before the soft cap"
    found = asked.ask(subject(), Choosing(), 0, "excess")
    assert found.measure == (TOP, None, True)
    assert found.quantity == "logit of #5 less the mean logit"
    with pytest.raises(InputError, match="the wrong answer must differ from #5"):
        asked.ask(subject(None, TOP), Choosing(), 0, "difference")


def test_a_mask_is_looked_at_first(subject):
    assert asked.ask_position(subject(), Choosing()) == 2
    assert asked.ask_position(subject(mask=1), Choosing()) == 1
    assert asked.ask_position(subject(mask=7), Choosing()) == 2
    assert asked.ask_position(subject(mask=1), Choosing(position=0)) == 0
