"""The drawing of encoder and decoder, with the hooks of the translation model at their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from docs.generate.anatomy.drawing import Drawing
from docs.generate.anatomy.recorded import recorded
from interp.charts.mpl import style
from interp.charts.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BOX, TALL = 1.7, 0.5  # width and height of a part
_ATTENTION, _CROSS, _MLP, _NORM, _OTHER = "#deebf7", "#fddbc7", "#e3f1e3", "#eeeeee", "#ffffff"


def stacks() -> Drawing:
    """Encoder on the left, decoder on the right, one layer of each opened."""
    from matplotlib.figure import Figure

    cfg = recorded().model.cfg
    with style():
        figure = Figure(figsize=(9.2, 7.6))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(0, 11.0), ylim=(-0.4, 9.4))
        axes.set_axis_off()
        encoder, decoder = _Stream(axes, 3.4), _Stream(axes, 9.0)
        d = cfg.d_model
        encoder.starts("source tokens", f"W_E[token] · √{d}", "PE(position)")
        decoder.starts("target tokens so far", f"W_E[token] · √{d}", "PE(position)")
        encoder.layer(
            [("self-attention", _ATTENTION, "attn_out", "mid"), ("MLP", _MLP, "mlp_out", "post")],
            f"× {cfg.n_encoder_layers}",
        )
        crossing = decoder.layer(
            [
                ("self-attention\n(masked)", _ATTENTION, "attn_out", "mid"),
                ("cross-attention", _CROSS, "cross_attn_out", "mid_cross"),
                ("MLP", _MLP, "mlp_out", "post"),
            ],
            f"× {cfg.n_layers}",
        )
        encoder.ends(["what the encoder\nsays of each token"])
        decoder.ends([f"W_U = W_Eᵀ\n[{d}, {cfg.d_vocab}]", "softmax"])
        _lead(axes, encoder, decoder.x - 2.2 - BOX / 2, crossing[1])
    return Drawing(
        figure,
        "Encoder and decoder",
        (
            f"A diagram of zoo:translation. Left: source tokens, embedded and with positions "
            f"added, pass {cfg.n_encoder_layers} encoder layers of self-attention and MLP. Right: "
            f"the target so far passes {cfg.n_layers} decoder layers of masked self-attention, "
            "cross-attention, which reads the encoder's output, and MLP; then unembedding and "
            "softmax. Each part reads the residual stream, adds to it, and the sum is normalised. "
            "Hook names stand at their places."
        ),
    )


@dataclass
class _Stream:
    """One residual stream, drawn from below."""

    axes: Axes
    x: float
    y: float = 0.0

    def starts(self, tokens: str, embeds: str, positions: str) -> None:
        self._box(self.x, 0.0, tokens, _OTHER)
        self._arrow((self.x, TALL / 2), (self.x, 0.85 - TALL / 2))
        self._box(self.x, 0.85, embeds, _OTHER)
        self._box(self.x - 2.2, 1.6, positions, _OTHER)
        self._arrow((self.x, 0.85 + TALL / 2), (self.x, 1.6 - 0.13))
        self._arrow((self.x - 2.2 + BOX / 2, 1.6), (self.x - 0.13, 1.6))
        self._plus(1.6)
        self._hook(0.85 + TALL / 2 + 0.13, "hook_embed")
        self.y = 1.6

    def layer(self, parts: list[tuple[str, str, str, str]], times: str) -> list[float]:
        """Draw a layer's parts; the heights of their boxes are returned."""
        from matplotlib.patches import FancyBboxPatch

        bottom = self.y + 0.42
        heights = []
        self._line(self.y + 0.13, bottom + 0.25)
        self.y = bottom + 0.25
        self._hook(self.y - 0.02, "resid_pre")
        for number, (name, color, added, stream) in enumerate(parts, 1):
            middle = self.y + 0.45
            self._arrow((self.x, self.y + 0.05), (self.x - 2.2, middle - TALL / 2), bend=True)
            self._box(self.x - 2.2, middle, name, color)
            top = middle + 0.48
            self._line(self.y, top - 0.13)
            self._arrow((self.x - 2.2, middle + TALL / 2), (self.x - 0.13, top), bend=True)
            self._plus(top)
            self.axes.text(
                self.x - 2.1, top + 0.07, f"hook_{added}", fontsize=6, color="#555555", va="bottom"
            )
            self._arrow((self.x, top + 0.13), (self.x, top + 0.33))
            self._box(self.x, top + 0.5, f"norm  ln{number}", _NORM, tall=0.34)
            self.y = top + 0.67
            heights.append(middle)
            self._line(self.y, self.y + 0.2)
            self._hook(self.y + 0.1, f"resid_{stream}")
            self.y += 0.2
        frame = FancyBboxPatch(
            (self.x - 3.2, bottom),
            4.4 + 0.55,
            self.y - bottom,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor="none",
            edgecolor="#999999",
            linestyle=(0, (4, 3)),
            linewidth=0.8,
        )
        self.axes.add_patch(frame)
        self.axes.text(self.x + 1.68, bottom + 0.12, times, ha="right", fontsize=10)
        return heights

    def ends(self, boxes: list[str]) -> None:
        for text in boxes:
            self._arrow((self.x, self.y), (self.x, self.y + 0.3))
            self._box(self.x, self.y + 0.3 + TALL / 2, text, _OTHER)
            self.y += 0.3 + TALL

    def _box(self, x: float, y: float, text: str, color: str, tall: float = TALL) -> None:
        from matplotlib.patches import FancyBboxPatch

        self.axes.add_patch(
            FancyBboxPatch(
                (x - BOX / 2, y - tall / 2),
                BOX,
                tall,
                boxstyle="round,pad=0,rounding_size=0.07",
                facecolor=color,
                edgecolor=LIGHT.ink,
                linewidth=0.8,
                zorder=3,
            )
        )
        self.axes.text(x, y, text, ha="center", va="center", fontsize=8, zorder=4)

    def _plus(self, y: float) -> None:
        self.axes.plot([self.x], [y], "o", ms=13, mfc="white", mec=LIGHT.ink, mew=0.8, zorder=3)
        self.axes.text(self.x, y - 0.01, "+", ha="center", va="center", fontsize=11, zorder=4)

    def _hook(self, y: float, name: str) -> None:
        text = name if name.startswith("hook_") else f"hook_{name}"
        self.axes.text(self.x + 0.12, y, text, fontsize=6, color="#555555", va="center")

    def _line(self, low: float, high: float) -> None:
        self.axes.plot([self.x, self.x], [low, high], color=LIGHT.ink, linewidth=1.4, zorder=2)

    def _arrow(
        self, start: tuple[float, float], end: tuple[float, float], bend: bool = False
    ) -> None:
        _arrow(self.axes, start, end, bend)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], bend: bool = False
) -> None:
    """A straight arrow, or one with a right angle: along x first if it ends below a box."""
    first, second = (0, 90) if end[0] < start[0] else (90, 0)
    corner = f"angle,angleA={first},angleB={second},rad=3"
    axes.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={
            "arrowstyle": "-|>",
            "shrinkA": 0,
            "shrinkB": 0,
            "linewidth": 0.9,
            "color": LIGHT.ink,
            "connectionstyle": corner if bend else "arc3",
        },
        zorder=2,
    )


def _lead(axes: Axes, encoder: _Stream, x: float, y: float) -> None:
    """The encoder's output, led into the decoder's cross-attention, whose left edge is at x."""
    start, turn = encoder.x + BOX / 2, x - 0.6
    top = encoder.y - TALL / 2
    axes.plot([start, turn, turn], [top, top, y], color=LIGHT.accent, linewidth=1.6, zorder=1)
    axes.annotate(
        "",
        xy=(x, y),
        xytext=(turn, y),
        arrowprops={
            "arrowstyle": "-|>",
            "shrinkA": 0,
            "shrinkB": 0,
            "linewidth": 1.6,
            "color": LIGHT.accent,
        },
    )
    axes.text(
        turn - 0.08,
        (y + top) / 2,
        "keys and\nvalues",
        fontsize=7,
        color=LIGHT.accent,
        ha="right",
        va="center",
    )
