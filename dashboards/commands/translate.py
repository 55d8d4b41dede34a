"""`interp translate`: a translation, and which words each of its words looked at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dashboards.commands import Json
from dashboards.commands.terminal import print_json, print_rows, waiting
from interp.errors import InputError, require_extra

if TYPE_CHECKING:
    from dashboards.translation import Translation, Translator


def translate(
    sentence: Annotated[str, typer.Argument(help="In English.")],
    beams: Annotated[int, typer.Option(min=1, help="Of the search; 1 is greedy.")] = 4,
    model: Annotated[
        str, typer.Option(help="Or the directory of another that the same recipe trained.")
    ] = "zoo:translation",
    heatmap: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", help="Draw the attention between tokens, too."),
    ] = None,
    json: Json = False,
) -> None:
    """Translate into Portuguese, and show where the model looked."""
    if heatmap is not None:
        if heatmap.suffix.lower() != ".svg" or heatmap.is_dir():
            raise InputError(f"--heatmap takes the name of an SVG file, got {str(heatmap)!r}")
        require_extra("seaborn", "plots")
    with waiting("loading the grammar"):
        from dashboards.translation import answer, ask, open_translator

        question = ask(sentence)
    with waiting(f"loading {model}"):
        translator = open_translator(model)
    with waiting("translating"):
        found = answer(translator, question, beams)
    if heatmap is not None:
        _draw(found, translator, heatmap)
    if json:
        print_json(_document(found, translator, beams))
        return
    _print(found, translator)
    if heatmap is not None:
        print(f"saved to {heatmap}")


def _print(found: "Translation", translator: "Translator") -> None:
    print(found.portuguese)
    known = found.question.known
    if known is None:
        full_stop = found.question.english.endswith((".", "?"))
        hint = "" if full_stop else ', whose sentences end with "." or "?"'
        print(f"note: the sentence is outside the training grammar{hint}")
    elif not found.as_known:
        print(f"note: the grammar has: {known.portuguese}")
    rows = []
    for i, word in enumerate(found.portuguese_words):
        (top, share), *others = found.looks_at(i)
        also = ", ".join(f"{other} {part:.0%}" for other, part in others)
        rows.append([word, top, f"{share:.0%}", also, " ".join(found.comes_from(i) or ())])
    header = ["Portuguese", "looks at", "share", "and at", "comes from"]
    shown = len(header) if found.as_known else -1  # the grammar says nothing of other words
    title = f"cross-attention of {_named(translator.head)}, where each word is predicted"
    print()
    print_rows(title, header[:shown], [row[:shown] for row in rows])


def _named(head: str) -> str:
    """Such as `head L1C0`, `all heads of layer 1 (mean)`, `all heads (mean)`."""
    layer = head.removesuffix("mean").strip()
    if layer == head:
        return f"head {head}"
    return f"all heads of layer {layer[1:]} (mean)" if layer else "all heads (mean)"


def _document(found: "Translation", translator: "Translator", beams: int) -> dict[str, Any]:
    known = found.question.known
    return {
        "model": translator.name,
        "beams": beams,
        "english": found.question.english,
        "portuguese": found.portuguese,
        "in_grammar": known is not None,
        "grammar": None if known is None else known.portuguese,
        "as_grammar": found.as_known,
        "head": translator.head,
        "alignment": [
            {
                "word": word,
                "looks_at": [
                    {"word": other, "share": round(share, 4)} for other, share in found.looks_at(i)
                ],
                "comes_from": found.comes_from(i),
            }
            for i, word in enumerate(found.portuguese_words)
        ],
        "english_words": found.english_words,
        "portuguese_words": found.portuguese_words,
        "word_attention": [[round(x, 4) for x in row] for row in found.word_attention.tolist()],
    }


def _draw(found: "Translation", translator: "Translator", file: Path) -> None:
    if not found.target_tokens:
        raise InputError("the translation is empty: there is no attention to draw")
    import pandas as pd

    from interp.charts import Chart
    from interp.charts.export import write_svg
    from interp.charts.mpl import draw

    table = pd.DataFrame(
        {
            "source": source,
            "source_token": found.source_tokens[source],
            "destination": destination,
            "destination_token": found.target_tokens[destination],
            "attention": share,
        }
        for destination, shares in enumerate(found.attention.tolist())
        for source, share in enumerate(shares)
    )
    strongest = "; ".join(
        f"{word} looks at {found.looks_at(i)[0][0]}"
        for i, word in enumerate(found.portuguese_words)
    )
    chart = Chart(
        kind="attention",
        table="cross-attention",
        title=f"Cross-attention of {_named(translator.head)}",
        alt=f"“{found.question.english}” as “{found.portuguese}”. Most of all, {strongest}.",
        x="source",
        x_text="source_token",
        x_label="English token",
        y="destination",
        y_text="destination_token",
        y_label="Portuguese token, where it is predicted",
        value="attention",
    )
    write_svg(file, draw(chart, table), chart)
