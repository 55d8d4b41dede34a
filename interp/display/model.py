"""A model as a tree that folds: its modules, their weights and their hooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from torch import Tensor, nn

from interp.config import HookedTransformerConfig
from interp.devices.memory import readable
from interp.devices.parsing import dtype_name
from interp.display.markup import count_text, folded, one_line, shape_text, table
from interp.hooks import HookPoint

_HEADER = ("tensor", "shape", "dtype", "device", "numbers", "bytes")
_INDENT = "margin:0 0 .25rem 1.25rem"


def model_html(model: nn.Module, cfg: HookedTransformerConfig) -> str:
    """The tree of a model's modules; blocks that are alike stand there once.

    Numbers and bytes of a module are those of its own parameters and of all below it, each counted
    once, also where two names stand for it. Only shapes are read, no numbers.
    """
    both = f"{cfg.n_encoder_layers} and " if cfg.architecture == "encoder-decoder" else ""
    layers = f"{cfg.architecture} of {both}{count_text(cfg.n_layers, 'layer')}"
    summary = (
        f"{type(model).__name__} {cfg.model_name}: {layers}, {count_text(cfg.n_heads, 'head')}, "
        f"d_model {cfg.d_model}; {_size(model)}; {_kinds(model)}"
    )
    tied = "W_U is W_E, transposed: one tensor, counted once. " if cfg.tie_word_embeddings else ""
    n_hooks = sum(isinstance(module, HookPoint) for module in model.modules())
    about = f'<p style="margin:.25rem 0">{tied}{count_text(n_hooks, "hook point")}.</p>'
    return folded("model", summary, f"{about}\n{_contents(model)}", is_open=True)


def _size(module: nn.Module) -> str:
    parameters = list(module.parameters())  # each once
    n_bytes = sum(p.numel() * p.element_size() for p in parameters)
    return f"{count_text(sum(p.numel() for p in parameters), 'parameter')}, {readable(n_bytes)}"


def _kinds(module: nn.Module) -> str:
    """Dtypes and devices of its parameters."""
    dtypes = sorted({dtype_name(p.dtype) for p in module.parameters()})
    devices = sorted({str(p.device) for p in module.parameters()})
    return f"{' and '.join(dtypes) or 'no dtype'} on {', '.join(devices) or 'nowhere'}"


def _contents(module: nn.Module) -> str:
    tensors = [*_tensors(module.named_parameters(recurse=False), "")]
    tensors += _tensors(module.named_buffers(recurse=False), ", a buffer")
    children = [(n, m) for n, m in module.named_children() if not isinstance(m, HookPoint)]
    points = [(n, m) for n, m in module.named_children() if isinstance(m, HookPoint)]
    parts = []
    if tensors:
        parts.append(table(_HEADER, tensors))
    if points:
        names = ", ".join(f"<code>{one_line(_hook_text(*point))}</code>" for point in points)
        parts.append(f'<p style="margin:.25rem 0">Hooks: {names}</p>')
    parts += _children(children)
    return f'<div style="{_INDENT}">' + "\n".join(parts) + "</div>"


def _children(children: Iterable[tuple[str, nn.Module]]) -> Iterator[str]:
    """Each by itself; those that follow one another and are alike, once."""
    shown = ((name, module, _contents(module)) for name, module in children)
    for (kind, contents), found in groupby(shown, key=lambda c: (type(c[1]).__name__, c[2])):
        group = list(found)
        numbered = len(group) > 1 and all(name.isdigit() for name, _, _ in group)
        for name, module, _ in group[:1] if numbered else group:
            several = f"{name} … {group[-1][0]}" if numbered else name
            size = f"{len(group)} alike, each {_size(module)}" if numbered else _size(module)
            yield folded("module", f"{several}: {kind}, {size}", contents, is_open=False)


def _tensors(named: Iterable[tuple[str, Tensor]], kind: str) -> Iterator[tuple[str, ...]]:
    for name, tensor in named:
        yield (
            name + kind,
            shape_text(tensor.shape),
            dtype_name(tensor.dtype),
            str(tensor.device),
            f"{tensor.numel():,}",
            readable(tensor.numel() * tensor.element_size()),
        )


def _hook_text(name: str, point: HookPoint) -> str:
    attached = point.extra_repr()
    return f"{name} ({attached} attached)" if attached else name
