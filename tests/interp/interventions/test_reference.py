"""References: what they accept, and that rows are recorded as they are alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.interventions import Reference
from interp.interventions import reference as module
from tests.interp.interventions.loop import recorded
from tests.interp.kinds import KINDS, some_tokens

HOOKS = {"": "blocks.0.attn.hook_z", "encoder-decoder": "decoder.blocks.0.hook_resid_post"}


@pytest.mark.parametrize("name", KINDS)
def test_rows_are_what_they_are_alone(
    kind: Callable[[str], HookedTransformer],
    name: str,
    assert_close: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)  # and however many run together
    model = kind(name)
    rows = [some_tokens(1, n, seed=n)[0].tolist() for n in (5, 3, 4)]
    fields: dict[str, Any] = {"tokens": rows}
    crosses = model.cfg.architecture == "encoder-decoder"
    if crosses:
        fields["decoder_tokens"] = [row[:2] for row in rows]
    if model.cfg.n_token_types:
        fields["token_types"] = [[t % 2 for t in row] for row in rows]
    hook = HOOKS.get(model.cfg.architecture, HOOKS[""])
    found = Reference(**fields).record(model, [hook])
    lengths = [2, 2, 2] if crosses else [5, 3, 4]
    assert found.lengths is not None and found.lengths.tolist() == lengths
    for i, row in enumerate(rows):
        given = {"input": torch.tensor([row])}
        if crosses:
            given["decoder_input"] = torch.tensor([row[:2]])
        if model.cfg.n_token_types:
            given["token_type_ids"] = given["input"] % 2
        assert_close(
            found.activations[hook][i, : lengths[i]], recorded(model, hook, **given)[0], name
        )


def test_a_batch_without_its_padding() -> None:
    tokens, mask = torch.tensor([[0, 5, 6], [7, 8, 9]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    assert Reference.of(tokens, mask).tokens == ((5, 6), (7, 8, 9))
    both = Reference.of(tokens, None, tokens, 1 - mask + mask)
    assert both == Reference(tokens, decoder_tokens=tokens)
    with pytest.raises(InputError, match="attention_mask must be"):
        Reference.of(tokens, mask[:1])
    with pytest.raises(InputError, match="one or several whole numbers"):
        Reference.of(tokens, torch.zeros_like(mask))  # a row of padding alone


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Reference(), "either tokens or activations. Received neither"),
        (lambda: Reference([[1]], activations={"x": torch.ones(1, 1)}), "Received both"),
        (lambda: Reference([]), "must be rows of token ids"),
        (lambda: Reference([1, 2]), "must be rows of token ids. Received 1"),
        (lambda: Reference(torch.tensor([1, 2])), r"must be \[row, pos\]"),
        (lambda: Reference([[-1]]), "must not be negative. Received -1"),
        (lambda: Reference([[1], [2]], decoder_tokens=[[1]]), "a row for each of its 2 prompts"),
        (lambda: Reference([[1, 2]], token_types=[[1]]), "as long as its tokens"),
        (lambda: Reference(activations={}), "must hold a hook"),
        (lambda: Reference.of(torch.ones(1, 2), None, None, torch.ones(1, 2)), "Received none"),
        (lambda: Reference(activations={"x": torch.ones(3)}), r"must be a tensor \[row"),
        (lambda: Reference(activations={"x": [[1.0]]}), r"must be a tensor \[row"),
    ],
)  # fmt: skip
def test_references_that_are_none(make: Callable[[], Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        make()


def test_given_activations_go_where_the_model_is(
    make_model: Callable[..., HookedTransformer],
) -> None:
    reference = Reference(activations={HOOKS[""]: torch.ones(1, 5, 4, 6)})
    model = make_model(**KINDS["gpt2"]).to("meta")
    assert reference.record(model, [HOOKS[""]]).activations[HOOKS[""]].is_meta


def test_references_of_another_model(kind: Callable[[str], HookedTransformer]) -> None:
    with pytest.raises(InputError, match="decoder_tokens where the model is an encoder-decoder"):
        Reference([[1]]).record(kind("t5"), ["decoder.blocks.0.hook_resid_post"])
    with pytest.raises(InputError, match="This is a decoder"):
        Reference([[1]], [[1]]).record(kind("gpt2"), [HOOKS[""]])
    with pytest.raises(InputError, match="tokens must lie in 0 … 30"):
        Reference([[31]]).record(kind("gpt2"), [HOOKS[""]])
