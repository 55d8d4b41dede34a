"""Drawings of numbers that no chart describes: the merges of a word, one head as matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docs.generate.anatomy.drawing import Drawing
from docs.generate.anatomy.recorded import HEAD, LAYER, WORD, recorded
from interp.charts.mpl import style
from interp.charts.palette import DIVERGING, GRID, LIGHT, SEQUENTIAL
from interp.tokenization import trace_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

SPLIT_WORD = "vermelho"


def merges() -> Drawing:
    """How the tokenizer builds one word's token, merge by merge."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    trace = trace_tokenizer(recorded().model.tokenizer, SPLIT_WORD).words[0]
    rows = [trace.start, *(step.symbols for step in trace.steps)]
    notes = ["characters", *(f"merge no. {step.rank}" for step in trace.steps)]
    with style():
        figure = Figure(figsize=(0.62 * len(trace.word) + 1.6, 0.42 * len(rows) + 0.2))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(-0.1, len(trace.word) + 2.6), ylim=(len(rows) - 0.4, -0.6))
        axes.set_axis_off()
        before: tuple[str, ...] = ()
        for y, (symbols, note) in enumerate(zip(rows, notes, strict=True)):
            x = 0
            for symbol in symbols:
                fresh = before and symbol not in before
                axes.add_patch(
                    FancyBboxPatch(
                        (x + 0.06, y - 0.34),
                        len(symbol) - 0.12,
                        0.68,
                        boxstyle="round,pad=0,rounding_size=0.08",
                        facecolor="#c6dbef" if fresh else "#f4f4f4",
                        edgecolor=LIGHT.ink,
                        linewidth=0.7,
                    )
                )
                axes.text(x + len(symbol) / 2, y, symbol, ha="center", va="center", fontsize=10)
                x += len(symbol)
            axes.text(x + 0.2, y, note, va="center", fontsize=8, color="#555555")
            before = symbols
    steps = ", then ".join(" + ".join(step.pair) for step in trace.steps)
    return Drawing(
        figure,
        f"How the tokens of “{SPLIT_WORD}” are built",
        f"The word {trace.word} as {len(trace.start)} characters, and after each merge that "
        f"applies, in the order they were learned: {steps}. In the end: {', '.join(trace.tokens)}.",
    )


def one_head() -> Drawing:
    """The attention of one head as matrices, one row of them followed."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    found = recorded()
    of = f"encoder.blocks.{LAYER}.attn.hook_"
    q, k, v, z = (found.cache[of + name][0, :, HEAD] for name in ("q", "k", "v", "z"))
    scores, pattern = (found.cache[of + name][0, HEAD] for name in ("attn_scores", "pattern"))
    n, d_head = q.shape
    row = found.at(f"▁{WORD}")
    signed = LinearSegmentedColormap.from_list("signed", DIVERGING)
    share = LinearSegmentedColormap.from_list("share", SEQUENTIAL)
    parts: list[tuple[str, str, Tensor, Any]] = [
        ("Q", f"[{n}, {d_head}]", q, signed),
        ("Kᵀ", f"[{d_head}, {n}]", k.T, signed),
        ("scores = Q Kᵀ / √d_head", f"[{n}, {n}]", scores, signed),
        ("pattern = softmax of each row", f"[{n}, {n}]", pattern, share),
        ("V", f"[{n}, {d_head}]", v, signed),
        ("z = pattern · V", f"[{n}, {d_head}]", z, signed),
    ]
    cell = 0.05
    big = 2.2  # inches of a token-by-token matrix
    sizes = {n: big, d_head: cell * d_head}
    with style():
        figure = Figure(figsize=(9.5, 7.6))
        places = [(0.7, 4.5), (3.8, 4.1), (6.9, 4.5), (0.7, 0.9), (3.8, 0.9), (6.9, 0.9)]
        for (name, shape, values, colors), (x, y) in zip(parts, places, strict=True):
            wide, tall = sizes[values.shape[1]], sizes[values.shape[0]]
            axes = figure.add_axes((x / 9.5, y / 7.6, wide / 9.5, tall / 7.6))
            reach = 1.0 if colors is share else float(values.abs().max())
            axes.imshow(
                values.numpy(),
                cmap=colors,
                vmin=0.0 if colors is share else -reach,
                vmax=reach,
                aspect="auto",
                interpolation="nearest",
            )
            scale = "0 … 1" if colors is share else f"±{reach:.1f}"
            axes.set_title(f"{name}   {shape}\ncolours {scale}", fontsize=8)
            axes.spines[:].set(visible=True, color=GRID)
            by_query = values.shape[0] == n and name != "V"
            if values.shape[0] == n:
                axes.set_yticks(range(n), found.sources)
            else:
                axes.set_yticks([])
            if values.shape[1] == n:
                axes.set_xticks(range(n), found.sources, rotation=90)
            else:
                axes.set_xticks([])
            axes.tick_params(length=2, labelsize=7)
            if by_query:
                edge: Any = {"edgecolor": LIGHT.accent, "linewidth": 1.4}
                axes.axhspan(row - 0.5, row + 0.5, fill=False, **edge)
    target = int(pattern[row].argmax())
    return Drawing(
        figure,
        f"Head {HEAD} of the encoder's layer {LAYER} as matrices",
        f"Six matrices of one head: queries and transposed keys give scores, their softmax by row "
        f"the pattern, and pattern times values what the head reads. The row of “▁{WORD}” is "
        f"outlined: it looks most at “{found.sources[target]}” ({pattern[row, target]:.2f}).",
    )
