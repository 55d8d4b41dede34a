"""zoo:translation: English to Portuguese in the style of Vaswani et al. 2017.

`python -m interp.zoo.recipes.translation --out DIR` trains it, in about ten minutes on one core.

An encoder–decoder with post-norm layers, sinusoidal positions and one table of embeddings for both
languages and the output, scaled by √d_model; one byte-pair vocabulary for both languages; a target
is read from `<s>` on and ends with `</s>`. The sentences are made by `parallel_grammar`; those that
it is tested on hold combinations of words that training never shows.

Choices that keep the cross-attention readable, found by trying: few heads, so that one alone has to
find the word to translate, and a vocabulary in which most words are one token. Nothing in the loss
asks for an alignment.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.tokenization import train_bpe
from interp.training import TrainSettings, train
from interp.transformer import HookedTransformer
from interp.zoo.entry import ZooEntry, write_entry
from interp.zoo.recipes.alignment import align, is_right, words_of_tokens
from interp.zoo.recipes.command import recipe_parser, run_recipe
from interp.zoo.recipes.parallel_clauses import ParallelSentence
from interp.zoo.recipes.parallel_grammar import held_out_sentences, training_sentences

NAME = "zoo:translation"
DESCRIPTION = (
    "An encoder–decoder that translates sentences of a small English grammar into Portuguese: "
    "adjectives move behind their nouns, time phrases to the front or the end, words agree in "
    "gender and number."
)
N_CTX = 64
VOCAB_SIZE = 1200
N_SENTENCES = 100_000  # training sentences, drawn from once
PROMPT = "Your sister showed the key to Spanish boys."
DEFAULTS: dict[str, dict[str, Any]] = {"logit-lens": {"prompt": PROMPT}}
STEPS = 3600
BATCH = 64
PAD, BOS, EOS = 0, 1, 2
DATA_SEED, LOGGING_SEED, FINAL_SEED = 10, 11, 12


class Pairs(NamedTuple):
    """Sentences in both languages, padded on the right.

    Attributes:
        source: `[batch, pos]`, ending with EOS; source_mask is 0 for padding.
        target: `[batch, pos]`, from BOS to EOS; target_mask likewise.
    """

    source: Int[Tensor, "batch pos"]
    source_mask: Int[Tensor, "batch pos"]
    target: Int[Tensor, "batch pos"]
    target_mask: Int[Tensor, "batch pos"]


class Corpus:
    """Tokenized training sentences, to draw batches from."""

    def __init__(self, tokenizer: Any, sentences: Sequence[ParallelSentence]) -> None:
        sources = tokenizer([s.english for s in sentences])["input_ids"]
        targets = tokenizer([s.portuguese for s in sentences])["input_ids"]
        self.sources, self.targets = padded(sources), padded([[BOS, *row] for row in targets])

    def batch(self, generator: torch.Generator, n: int = BATCH) -> Pairs:
        """Some sentences, as wide as the longest of them."""
        rows = torch.randint(len(self.sources[0]), (n,), generator=generator)
        return Pairs(*_narrow(self.sources, rows), *_narrow(self.targets, rows))


def padded(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "row pos"], Int[Tensor, "row pos"]]:
    """Rows of different lengths as one tensor, and its mask."""
    tokens = torch.full((len(rows), max(map(len, rows))), PAD)
    mask = torch.zeros_like(tokens)
    for i, row in enumerate(rows):
        tokens[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    return tokens, mask


def _narrow(table: tuple[Tensor, Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    tokens, mask = table[0][rows], table[1][rows]
    width = int(mask.sum(1).max())
    return tokens[:, :width], mask[:, :width]


def make_tokenizer(sentences: Sequence[ParallelSentence]) -> Any:
    """One byte-pair vocabulary for both languages; a text ends with EOS."""
    texts = [text for s in sentences for text in (s.english, s.portuguese)]
    tokenizer = train_bpe(texts, VOCAB_SIZE)
    tokenizer.padding_side = "right"
    return tokenizer


def settings_for(steps: int, seed: int = 0) -> TrainSettings:
    """The recipe's training settings."""
    return TrainSettings(
        steps=steps,
        lr=3e-3,
        warmup_steps=min(200, steps - 1),
        decay="cosine",
        final_lr_fraction=0.01,
        weight_decay=0.01,
        betas=(0.9, 0.98),
        seed=seed,
        log_every=200,
    )


def make_model(tokenizer: Any, seed: int = 0) -> HookedTransformer:
    """The architecture with fresh weights."""
    d_model = 96
    cfg = HookedTransformerConfig(
        architecture="encoder-decoder",
        n_encoder_layers=2,
        n_layers=2,
        d_model=d_model,
        n_heads=2,
        d_mlp=256,
        act_fn="relu",
        n_ctx=N_CTX,
        d_vocab=len(tokenizer),
        norm_placement="post",
        positional_embedding_type="sinusoidal",
        embed_scale=d_model**0.5,
        tie_word_embeddings=True,
        decoder_start_token_id=BOS,
        model_name=NAME,
        seed=seed,
        device="cpu",
    )
    return HookedTransformer(cfg, tokenizer)


def loss(model: HookedTransformer, pairs: Pairs) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats of each target token, EOS included."""
    logits = model(
        pairs.source,
        attention_mask=pairs.source_mask,
        decoder_input=pairs.target[:, :-1],
        decoder_attention_mask=pairs.target_mask[:, :-1],
    )
    wanted = pairs.target_mask[:, 1:].bool()
    return F.cross_entropy(logits[wanted], pairs.target[:, 1:][wanted])


@torch.no_grad()
def translate(
    model: HookedTransformer, english: Sequence[str], num_beams: int = 4, batch: int = 128
) -> list[str]:
    """Translations by beam search."""
    found: list[str] = []
    for start in range(0, len(english), batch):
        texts = list(english[start : start + batch])
        found += model.generate(texts, max_new_tokens=48, num_beams=num_beams, do_sample=False)
    return found


@torch.no_grad()
def exact_match(
    model: HookedTransformer, sentences: Sequence[ParallelSentence], num_beams: int = 4
) -> float:
    """The share of sentences whose translation is the grammar's, letter for letter."""
    found = translate(model, [s.english for s in sentences], num_beams)
    return sum(f == s.portuguese for f, s in zip(found, sentences, strict=True)) / len(sentences)


@torch.no_grad()
def alignment_scores(
    model: HookedTransformer, sentences: Sequence[ParallelSentence]
) -> dict[str, float]:
    """How often every head of cross-attention (and each layer's mean) looks where it should.

    A Portuguese word counts as right if the source token that is looked at most, where the word is
    predicted, belongs to one of the English words that it comes from. A comma that English lacks
    comes from no word and is not counted.
    """
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    names = [f"L{layer}C{head}" for layer in range(n_layers) for head in range(n_heads)]
    right = dict.fromkeys([*names, *(f"L{layer} mean" for layer in range(n_layers))], 0)
    total = 0
    for s in sentences:
        patterns = align(model, s.english, s.portuguese)
        source = words_of_tokens(model.tokenizer, s.english, s.english_words)
        target = words_of_tokens(model.tokenizer, s.portuguese, s.portuguese_words)
        counted = [
            word != "," or s.english_words[gold[0]] == ","
            for word, gold in zip(s.portuguese_words, s.alignment, strict=True)
        ]
        for name, pattern in zip(right, [*patterns.flatten(0, 1), *patterns.mean(1)], strict=True):
            found = is_right(pattern, source, target, s.alignment)
            right[name] += sum(ok for ok, counts in zip(found, counted, strict=True) if counts)
        total += sum(counted)
    return {name: count / total for name, count in right.items()}


def measure(model: HookedTransformer, n: int = 1000, n_aligned: int = 300) -> dict[str, Any]:
    """What the recipe reports, on held-out sentences."""
    sentences = held_out_sentences(torch.Generator().manual_seed(FINAL_SEED), n)
    scores = alignment_scores(model, sentences[:n_aligned])
    best = max(scores, key=lambda name: scores[name])
    return {
        "exact_match": round(exact_match(model, sentences), 4),
        "exact_match_greedy": round(exact_match(model, sentences, num_beams=1), 4),
        "alignment": round(scores[best], 4),
        "alignment_head": best,
        "alignment_by_head": {name: round(score, 4) for name, score in scores.items()},
    }


def make_entry(out: str | Path, steps: int = STEPS, progress: bool = False) -> ZooEntry:
    """Train the model and write the entry."""
    settings = settings_for(steps)
    sentences = training_sentences(torch.Generator().manual_seed(DATA_SEED), N_SENTENCES)
    tokenizer = make_tokenizer(sentences[:20_000])
    corpus = Corpus(tokenizer, sentences)
    unseen = held_out_sentences(torch.Generator().manual_seed(LOGGING_SEED), 200)
    test = Corpus(tokenizer, unseen).batch(torch.Generator().manual_seed(0), 200)
    model = make_model(tokenizer, settings.seed)
    untrained = {"steps": 0, "test_loss": round(loss(model, test).item(), 4)}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        history = train(
            model,
            lambda step, generator: corpus.batch(generator),
            loss,
            settings,
            evaluate=lambda m: {
                "test_loss": loss(m, test).item(),
                **{f"alignment {k}": v for k, v in alignment_scores(m, unseen[:60]).items()},
            },
            progress=progress,
        )
        seconds = time.perf_counter() - start
        return write_entry(
            out,
            model,
            history,
            folder,
            description=DESCRIPTION,
            recipe="interp.zoo.recipes.translation",
            training={
                **dataclasses.asdict(settings),
                "batch": BATCH,
                "sentences": N_SENTENCES,
                "seconds": round(seconds, 1),
                "torch": torch.__version__,
            },
            metrics=measure(model),
            control=untrained,
            defaults=DEFAULTS,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = recipe_parser("translation", STEPS)
    return run_recipe(parser, arguments, make_entry, "trained", "untrained")


if __name__ == "__main__":
    torch.set_num_threads(1)  # more only gets in the way of so small a model
    torch.set_flush_denormal(True)
    sys.exit(main())
