"""`interp tokenize`: the tokens of a text, and the merges that made them."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dashboards.commands import Json
from dashboards.commands.terminal import print_json, print_rows
from interp.errors import InputError, unknown

if TYPE_CHECKING:
    from interp.tokenization import MergeTrace, TextTrace

MERGES = 10

Tokens = list[tuple[str, int]]


def tokenize(
    text: Annotated[str, typer.Argument(help="What to take apart.")],
    model: Annotated[
        str | None,
        typer.Option(help="Whose tokenizer. Without one, merges are learned from the text."),
    ] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Show every merge.")] = False,
    merges: Annotated[
        int | None, typer.Option(min=0, help=f"How many to learn from the text; {MERGES} if unset.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the tokens of a text and their ids."""
    if model is not None and merges is not None:
        raise InputError("--merges is for learning from the text: a model's tokenizer has its own")
    told: MergeTrace | TextTrace | None
    if model is None:
        from interp.tokenization import learn_merges

        learned = learn_merges(text, MERGES if merges is None else merges)
        tokens, told = _number(text, learned), learned
    else:
        from interp.tokenization import trace_tokenizer

        tokenizer = _open(model)
        tokens = _encode(tokenizer, text)
        told = trace_tokenizer(tokenizer, text) if trace else None
    if json:
        document = {
            "text": text,
            "model": model,
            "tokens": [token for token, _ in tokens],
            "ids": [token_id for _, token_id in tokens],
        }
        print_json({**document, "trace": _steps(told)} if trace else document)
        return
    if trace:
        print(f"{told}\n")
    _print_tokens(tokens, model)


def _print_tokens(tokens: Tokens, model: str | None) -> None:
    from interp.charts.tokens import visible

    whose = f"of {model}" if model else "by merges learned from this text alone"
    rows = [(i, visible(token), token_id) for i, (token, token_id) in enumerate(tokens)]
    count = f"{len(rows)} token" + "s" * (len(rows) != 1)
    print_rows(f"{count} {whose}", ["", "token", "id"], rows)


def _number(text: str, learned: "MergeTrace") -> Tokens:
    """The text's tokens. The vocabulary is the alphabet, then what each merge made."""
    letters = sorted({symbol for symbols in learned.start.values() for symbol in symbols})
    vocabulary = dict.fromkeys([*letters, *(left + right for left, right in learned.merges)])
    ids = {symbol: i for i, symbol in enumerate(vocabulary)}
    words = learned.words()
    return [(symbol, ids[symbol]) for word in text.split() for symbol in words[word]]


def _open(model: str) -> Any:
    """A model's tokenizer; its weights are not read."""
    from interp import zoo
    from interp.pretrained.tokenizers import open_tokenizer

    if not model.startswith("zoo:"):
        return open_tokenizer(model)
    entries = zoo.entries()
    if model not in entries:
        raise unknown("zoo model", model, entries)
    return open_tokenizer(entries[model].directory)


def _encode(tokenizer: Any, text: str) -> Tokens:
    try:
        ids = tokenizer.encode(text)
    except Exception as fault:  # the tokenizers library raises nothing narrower
        raise InputError(f"the tokenizer cannot read {text!r:.80}: {fault}") from fault
    return list(zip(tokenizer.convert_ids_to_tokens(ids), ids, strict=True))


def _steps(told: "MergeTrace | TextTrace | None") -> Any:
    """A trace as JSON has it."""
    from interp.tokenization import MergeTrace

    if told is None:
        return None
    if isinstance(told, MergeTrace):
        steps = [{"pair": s.pair, "count": s.count, "changed": dict(s.changed)} for s in told.steps]
        return {"start": dict(told.start), "merges": steps}
    return [
        {
            "word": word.word,
            "start": word.start,
            "merges": [{"pair": s.pair, "rank": s.rank, "symbols": s.symbols} for s in word.steps],
        }
        for word in told.words
    ]
