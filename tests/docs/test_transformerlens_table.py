"""What the page says of TransformerLens's names is true of interp, name by name."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from typing import Any

import pytest
import torch

import interp
from docs.ported.names import PAGE, VERDICTS, Name, page_with_tables, read_names, table
from interp import HookedTransformer, HookedTransformerConfig, KeyValueCache

SMALL: dict[str, Any] = {
    "n_layers": 1,
    "d_model": 4,
    "n_heads": 2,
    "n_ctx": 4,
    "d_vocab": 5,
    "act_fn": "gelu",
    "device": "cpu",
}
NAMES = read_names()
# What an owner of TransformerLens is here, where names are the same.
MODULES = {
    "utils": "interp.utils",
    "patching": "interp.patching",
    "transformer_lens": "interp",
    "head_detector": "interp.behaviour",
    "hook_points": "interp.hooks",
}


def _instances() -> dict[str, Any]:
    """One of each class of TransformerLens's, as interp makes it."""
    decoder = HookedTransformer(HookedTransformerConfig(**SMALL))
    encoder = HookedTransformerConfig(**SMALL, architecture="encoder", head="mlm", n_token_types=2)
    pooled = encoder.replace(head="next-sentence")
    both = HookedTransformerConfig(**SMALL, architecture="encoder-decoder")
    _, cache = decoder.run_with_cache(torch.zeros(1, 2, dtype=torch.long))
    return {
        "HookedTransformer": [decoder],
        "HookedTransformerConfig": [decoder.cfg],
        "ActivationCache": [cache],
        "HookPoint": [decoder.hook_embed],
        "FactoredMatrix": [interp.FactoredMatrix(torch.eye(2), torch.eye(2))],
        "HookedEncoder": [HookedTransformer(encoder), HookedTransformer(pooled)],
        "HookedEncoderDecoder": [HookedTransformer(both), HookedTransformer(both).decoder],
        "TransformerLensKeyValueCache": [KeyValueCache.init_cache(decoder.cfg, "cpu")],
    }


@pytest.fixture(scope="module")
def instances() -> dict[str, Any]:
    """The models are made once."""
    return _instances()


def _found(row: Name, instances: dict[str, Any]) -> Any:
    """What a row's own name is here; None: there is no such."""
    if row.owner in MODULES:
        return getattr(importlib.import_module(MODULES[row.owner]), row.name, None)
    for instance in instances.get(row.owner, ()):
        if hasattr(instance, row.name):
            return getattr(instance, row.name) if row.parameters else True
    return None


def _lacking(parameters: tuple[str, ...], value: Any) -> list[str]:
    """Parameters that cannot be given to something as TransformerLens's scripts give them."""
    found = inspect.signature(value).parameters.values()
    # Past an `index_df=None` and the like, a partial takes the rest by keyword in both libraries.
    taken = [p.name for p in found if p.kind is not inspect.Parameter.VAR_KEYWORD]
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found)
    positional = [
        p.name for p in found if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]  # fmt: skip
    wanted = [p for p in parameters if not p.startswith("*")]
    lacking = [p for p in wanted if p not in taken and not takes_all]
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in found):
        return lacking
    named = [p for p in wanted if p in positional]
    if positional[: len(named)] != named:
        lacking.append(f"order {positional}")
    return lacking


def _resolve(dotted: str) -> Any:
    """What a dotted name means; AttributeError if nothing."""
    parts = dotted.split(".")
    value: Any = importlib.import_module(parts[0])
    for depth, part in enumerate(parts[1:], 2):
        if inspect.ismodule(value) and not hasattr(value, part):
            value = importlib.import_module(".".join(parts[:depth]))
        elif value is HookedTransformerConfig and not hasattr(value, part):
            assert part in HookedTransformerConfig.__dataclass_fields__, dotted
            return value
        elif value is HookedTransformer and not hasattr(value, part):
            return getattr(HookedTransformer(HookedTransformerConfig(**SMALL)), part)
        elif value in (interp.HookPoint, KeyValueCache) and not hasattr(value, part):
            return getattr(value(), part)
        else:
            value = getattr(value, part)
    return value


def test_the_same_names_are_here_and_take_the_same_parameters(instances: dict[str, Any]) -> None:
    faults = []
    for row in NAMES:
        if row.verdict != "same":
            continue
        value = _found(row, instances)
        if value is None:
            faults.append(f"{row.owner}.{row.name} is not here")
        elif row.parameters and (lacking := _lacking(row.parameters, value)):
            faults.append(f"{row.owner}.{row.name} does not take {lacking}")
    assert not faults, "\n".join(faults)


def test_names_that_differ_are_here_and_other_names_lead_somewhere(
    instances: dict[str, Any],
) -> None:
    faults = []
    for row in NAMES:
        if row.verdict == "differs" and not row.here and _found(row, instances) is None:
            faults.append(f"{row.owner}.{row.name} differs, but is not here")
        for target in filter(None, row.here.split(", ")):
            try:
                _resolve(target)
            except (AttributeError, ImportError):
                faults.append(f"{row.owner}.{row.name} leads to {target}, which is not here")
    assert not faults, "\n".join(faults)


def test_names_that_are_not_here_are_not(instances: dict[str, Any]) -> None:
    here = [
        f"{row.owner}.{row.name}"
        for row in NAMES
        if row.verdict in ("not here", "other name")
        and row.name != "__init__"
        and (row.owner, row.name) != ("transformer_lens", "cache")  # interp.cache: activations
        and _found(row, instances) is not None
    ]
    assert not here, here


def test_every_verdict_says_what_it_must() -> None:
    for row in NAMES:
        what = f"{row.owner}.{row.name}"
        assert row.verdict in VERDICTS, what
        assert bool(row.here) == (row.verdict == "other name") or row.verdict == "same", what
        assert row.note or row.verdict in ("same", "other name"), what
    counts = Counter((row.owner, row.name) for row in NAMES)
    assert not [key for key, n in counts.items() if n > 1]


def test_names_of_which_the_same_is_said_share_a_row() -> None:
    rows = [
        Name("A", "w", (), "differs", "", "how"),
        Name("A", "x", (), "same", "", ""),
        Name("A", "z", (), "other name", "interp.utils", "why"),
        Name("A", "y", ("a",), "same", "", ""),
    ]
    assert table(rows).splitlines()[2:] == [
        "| `x`, `y` | same | |",
        "| `w` | differs | how |",
        "| `z` | `interp.utils` | why |",
    ]


def test_the_page_has_the_tables_of_the_names() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page_with_tables(text), "renew it: python -m docs.ported.names"
    for owner in {row.owner for row in NAMES}:
        assert f"<!-- names of {owner} -->" in text
