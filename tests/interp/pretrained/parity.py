"""Whether a converted model computes what Hugging Face's own code computes.

How to test a family: list its configurations, and let every one be checked in fp32 and fp64.

    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

    CONFIGS = {
        "grouped": lambda: transformers.LlamaConfig(hidden_size=24, num_attention_heads=3, …),
        "tied": lambda: …,
    }

    @parity_cases(CONFIGS)
    def test_parity(case: Case, tmp_path: Path) -> None:
        case.check(tmp_path)

`case.check` takes the arguments of `check_parity`; `Case.model()` gives the Hugging Face model of
the case alone. Give `parity_cases(CONFIGS, auto="BertForPreTraining")` where the class
is not the one that `AutoModelForCausalLM` would choose. Contexts must hold 9 + 32 tokens.

What is compared: the residual stream that every layer reads and writes, attention patterns, logits;
for a full batch and for batches padded on the right and on the left, where real tokens stand;
greedy continuations, ours with a key/value cache, token by token (16, and 32 for the table); and
the logits of the model that is read back from `save_pretrained`, which must be the very same
numbers.

The error of a tensor is max |ours - theirs| / max(1, max |theirs|): at most 1e-5 in fp32 and 1e-10
in fp64. Hugging Face casts to fp32 inside (norms, rotary angles, softmax): for fp64, its code runs
with fp64 put in place of every fp32 that it names (`in_fp64`).

The table of figures, docs/measured/parity.md, is made by `make parity`: with PARITY_OUT set, every
check writes its figures into that folder, and
`python -m tests.interp.pretrained.figures FOLDER FILE` makes the table of them. Otherwise nothing
is written.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interp import HookedTransformer, load_model
from interp.pretrained.registry import family_of
from tests.covering import EXHAUSTIVE, every_nth
from tests.interp.pretrained.figures import Figures

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
LENGTH = 9
NEW = 32 if EXHAUSTIVE or "PARITY_OUT" in os.environ else 16
Side = str | None


# --- Hugging Face's side -------------------------------------------------------------------------


class _Wide(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        kwargs = {k: _widened(v) for k, v in (kwargs or {}).items()}
        return func(*(_widened(a) for a in args), **kwargs)


def _widened(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


@contextmanager
def in_fp64() -> Iterator[None]:
    """Wherever torch is asked for fp32, explicitly or by default, it takes fp64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Wide():
            yield
    finally:
        torch.set_default_dtype(before)


def _arithmetic(dtype: torch.dtype) -> Any:
    return in_fp64() if dtype == torch.float64 else nullcontext()


@torch.no_grad()
def random_model(
    config: Any, dtype: torch.dtype = torch.float32, auto: Any = None, seed: int = 0
) -> Any:
    """A Hugging Face model in which no weight, bias or norm is at a neutral value.

    Args:
        config: Of the model.
        dtype: Of its weights.
        auto: The class to make, or its name, so that it is imported where it is used. None:
            `AutoModelForCausalLM` chooses.
        seed: Of the weights.
    """
    import transformers

    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    with _arithmetic(dtype):
        if auto is None:
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
        else:
            make = getattr(transformers, auto) if isinstance(auto, str) else auto
            model = make(config).to(dtype)
        generator = torch.Generator().manual_seed(seed)
        drawn = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        drawn += [(n, b) for n, b in model.named_buffers() if n.endswith("final_logits_bias")]
        for name, parameter in drawn:
            noise = torch.empty(parameter.shape, dtype=torch.float64)
            parameter.copy_(noise.normal_(0.0, 0.2, generator=generator))
            of_norm = "ln" in name or "norm" in name.lower()
            if of_norm and name.endswith("weight"):
                parameter.add_(1.0)
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=NEW, use_cache=True, pad_token_id=0
    )
    return model.eval()


def _stack_of(module: nn.Module, n_layers: int) -> nn.ModuleList:
    """The list of a model's blocks: the outermost with that many."""
    found = [m for m in module.modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    assert found, f"no list of {n_layers} blocks in {type(module).__name__}"
    return found[0]


def _first(value: Any) -> Tensor:
    return value[0] if isinstance(value, tuple | list) else value


@torch.no_grad()
def _run_hf(
    hf_model: Any,
    model: HookedTransformer,
    given: Mapping[str, Tensor],
    logits_of: Callable[[Any], Tensor],
    stacks: Mapping[str, nn.ModuleList],
) -> dict[str, Tensor]:
    """Residual streams, patterns and logits, under our names."""
    seen: dict[str, Tensor] = {}
    handles = []
    for prefix, blocks in stacks.items():
        for i, block in enumerate(blocks):

            def before(m: Any, args: Any, kwargs: Any, name: str = f"{prefix}{i}") -> None:
                seen[f"{name}.hook_resid_pre"] = args[0] if args else kwargs["hidden_states"]

            def after(m: Any, args: Any, output: Any, name: str = f"{prefix}{i}") -> None:
                seen[f"{name}.hook_resid_post"] = _first(output)

            handles.append(block.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(block.register_forward_hook(after))
    try:
        with _arithmetic(model.cfg.dtype):
            out = hf_model(**given, use_cache=False, output_attentions=True)
    finally:
        for handle in handles:
            handle.remove()
    names = {"blocks.": "attentions", "decoder.blocks.": "decoder_attentions",
             "encoder.blocks.": "encoder_attentions"}  # fmt: skip
    for prefix in stacks:
        for i, pattern in enumerate(getattr(out, names[prefix], None) or ()):
            seen[f"{prefix}{i}.attn.hook_pattern"] = pattern
    for i, pattern in enumerate(getattr(out, "cross_attentions", None) or ()):
        seen[f"decoder.blocks.{i}.cross_attn.hook_pattern"] = pattern
    seen["logits"] = logits_of(out)
    return seen


# --- ours beside theirs --------------------------------------------------------------------------


def _batch(side: Side, n: int, d_vocab: int, pad: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of n, about n/2 and 1 tokens, none of them the pad token, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, d_vocab, (3, n), generator=generator)
    tokens = tokens - 1 if pad is None else (tokens + pad) % d_vocab
    lengths = torch.tensor([[n], [n // 2 + 1], [1]] if side else [[n]] * 3)
    places = torch.arange(n)
    mask = (places >= n - lengths) if side == "left" else (places < lengths)
    return (tokens if pad is None else tokens.masked_fill(~mask, pad)), mask.long()


def check_parity(
    hf_model: Any,
    configuration: str,
    folder: Path,
    *,
    sides: Sequence[str] = ("right", "left"),
    position_ids: bool = True,
    logits_of: Callable[[Any], Tensor] = lambda out: out.logits,
    patterns: bool = True,
    length: int = LENGTH,
    hf_cache: bool = True,
    cache: bool = True,
    generates: bool = True,
    tolerance: float | None = None,
) -> Figures:
    """Convert a model, run it beside Hugging Face's code, and fail where they differ.

    Args:
        hf_model: With weights of `random_model`.
        configuration: Its name in the table.
        folder: An empty one, for the round trip.
        sides: Where batches are padded (Hugging Face's encoders with absolute positions are right
            for padding on the right only).
        position_ids: Give Hugging Face the places of real tokens, if its forward takes them. False
            where it counts them itself.
        logits_of: Finds the logits in its output.
        patterns: Compare them too, where it gives them.
        length: Tokens of the longest row.
        hf_cache: Let Hugging Face generate with a key/value cache.
        cache: Let interp.
        generates: Compare continuations.
        tolerance: Instead of that of the dtype.
    """
    model = HookedTransformer.from_hf(hf_model)
    cfg = model.cfg
    assert cfg.dtype == hf_model.dtype
    tolerance = tolerance or TOLERANCES[cfg.dtype]
    config = {**hf_model.config.to_dict(), "architectures": [type(hf_model).__name__]}
    family = family_of(config)
    assert family.shape == cfg.architecture
    figures = Figures(family.name, configuration, type(hf_model).__name__, str(cfg.dtype)[6:])
    seq2seq = cfg.architecture == "encoder-decoder"
    if seq2seq:
        stacks = {
            "encoder.blocks.": _stack_of(hf_model.get_encoder(), cfg.n_encoder_layers or 0),
            "decoder.blocks.": _stack_of(hf_model.get_decoder(), cfg.n_layers),
        }
    else:
        stacks = {"blocks.": _stack_of(hf_model, cfg.n_layers)}
    takes = inspect.signature(hf_model.forward).parameters
    pad = hf_model.config.get_text_config().pad_token_id

    def compare(side: Side) -> None:
        tokens, mask = _batch(side, length, cfg.d_vocab, pad, seed=1)
        theirs: dict[str, Tensor] = {"input_ids": tokens, "attention_mask": mask}
        ours: dict[str, Any] = {"attention_mask": mask if side else None}
        if position_ids and "position_ids" in takes:
            theirs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        if cfg.n_token_types:
            types = torch.randint(cfg.n_token_types, tokens.shape)
            theirs["token_type_ids"] = ours["token_type_ids"] = types
        real = {"": mask.bool(), "encoder.": mask.bool()}
        if seq2seq:
            # Padded in turn: where the longest source is, the shortest target is not.
            target, target_mask = _batch(side, length - 2, cfg.d_vocab, pad, seed=2)
            target, target_mask = target.roll(1, 0), target_mask.roll(1, 0)
            theirs |= {"decoder_input_ids": target, "decoder_attention_mask": target_mask}
            ours |= {
                "decoder_input": target,
                "decoder_attention_mask": target_mask if side else None,
            }
            real[""] = target_mask.bool()
        expected = _run_hf(hf_model, model, theirs, logits_of, stacks)
        with torch.no_grad():
            logits, cache = model.run_with_cache(tokens, **ours)
            unwatched = model(tokens, **ours)
        wanted = expected.pop("logits")
        at = real[""] if wanted.ndim == 3 else slice(None)
        figures.note(f"logits, {side}", logits[at], wanted[at], tolerance)
        figures.note(f"logits unwatched, {side}", unwatched[at], wanted[at], tolerance)
        assert len(expected) >= 2 * (cfg.n_layers + (cfg.n_encoder_layers or 0))
        for name, value in expected.items():
            where = real["encoder." if name.startswith("encoder.") else ""]
            found = cache[name]
            if name.endswith("hook_pattern"):
                if not patterns:
                    continue
                found, value = (x.transpose(1, 2) for x in (found, value))
                if not cfg.attn_sinks:
                    sums = found[where].sum(-1)
                    assert (sums - 1).abs().max() <= tolerance, f"{name}: rows must sum to 1"
            figures.note(f"{name}, {side}", found[where], value[where], tolerance)

    for side in (None, *sides):
        compare(side)

    tokens, _ = _batch(None, length, cfg.d_vocab, pad, seed=3)
    given: dict[str, Any] = {"decoder_input": tokens[:, :4]} if seq2seq else {}
    with torch.no_grad():
        logits = model(tokens, **given)
        if cfg.attention_dir == "causal":
            _check_causality(model, tokens, given, logits, tolerance)
            if generates:
                figures.generation = _compare_generation(hf_model, model, tokens, hf_cache, cache)
        hf_model.save_pretrained(folder)
        assert torch.equal(load_model(folder, device="cpu")(tokens, **given), logits), "round trip"
    figures.store()
    return figures


def _check_causality(
    model: HookedTransformer,
    tokens: Tensor,
    given: dict[str, Any],
    logits: Tensor,
    tolerance: float,
) -> None:
    """What comes later changes nothing before it."""
    name = "decoder_input" if given else "input"
    changed = (given or {"input": tokens})[name].clone()
    changed[:, -1] = (changed[:, -1] + 1) % model.cfg.d_vocab
    other = model(tokens, decoder_input=changed) if given else model(changed)
    assert (other - logits)[:, :-1].abs().max() <= tolerance
    assert (other - logits)[:, -1].abs().max() > tolerance


def _compare_generation(
    hf_model: Any, model: HookedTransformer, tokens: Tensor, hf_cache: bool, cache: bool
) -> list[int]:
    settings: dict[str, Any] = {"attention_mask": torch.ones_like(tokens), "use_cache": hf_cache}
    if model.cfg.architecture == "encoder-decoder":
        settings["decoder_start_token_id"] = model.cfg.decoder_start_token_id
    with _arithmetic(model.cfg.dtype):
        theirs = hf_model.generate(tokens, **settings)
    ours = model.generate(tokens, max_new_tokens=NEW, do_sample=False, use_past_kv_cache=cache)
    theirs, ours = theirs[:, -NEW:], ours[:, -NEW:]
    same = [int((ours == theirs).sum()), theirs.numel()]
    assert same[0] == same[1], f"{same[0]} of {same[1]} generated tokens are the same"
    return same


# --- cases ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One configuration in one dtype."""

    name: str
    make_config: Callable[[], Any]
    dtype: torch.dtype
    auto: Any = None

    def model(self) -> Any:
        """The Hugging Face model."""
        return random_model(self.make_config(), self.dtype, self.auto)

    def check(self, folder: Path, **settings: Any) -> Figures:
        """`check_parity` of it."""
        return check_parity(self.model(), self.name, folder, **settings)


def parity_cases(
    configs: Mapping[str, Callable[[], Any]],
    auto: Any = None,
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64),
) -> pytest.MarkDecorator:
    """Parametrises a test with a `case` for each configuration and dtype.

    Dtypes take turns, one for each configuration; one that is alone has them all. For the table,
    and with `INTERP_EXHAUSTIVE=1`, there is every case.
    """
    n = len(dtypes) if len(configs) > 1 and "PARITY_OUT" not in os.environ else 1
    cases = [
        Case(name, make, dtype, auto)
        for i, (name, make) in enumerate(configs.items())
        for dtype in every_nth(dtypes, n, i)
    ]
    return pytest.mark.parametrize("case", cases, ids=lambda c: f"{c.name}-{str(c.dtype)[6:]}")
