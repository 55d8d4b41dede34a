"""Edits as sentences."""

from __future__ import annotations

import pytest

from dashboards.edits import in_words, parse


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("zero:L0H3", "output of head 3, layer 0: zero"),
        ("mean:L*MLP@-1", "MLP output of all layers, position -1: its mean over all positions of "
         "this prompt"),
        ("mean(both):L0-2H*.q", "queries of all heads, layers 0-2: its mean over all positions of "
         "both prompts"),
        ("resample(7):L2C1", "output of cross-attention head 1, layer 2: what it is when this "
         "prompt's tokens are shuffled (seed 7)"),
        ("patch:encoder.L3.resid_pre@5", "residual stream before layer 3 of the encoder, position "
         "5: what it is at the same position of the second prompt"),
        ("hold:L0H1.pattern", "pattern of head 1, layer 0: what it is without interventions"),
        ("scale:L1N17*0.5", "neuron 17, layer 1: times 0.5"),
        ("noise:embed@2-4+3", "embeddings, positions 2-4: plus noise of 3.0 of its standard "
         "deviations (seed 0)"),
        ("mask:L1H2@7<3", "pattern of head 2, layer 1, from position 7 to position 3: score −∞, so "
         "that the rest of the pattern grows"),
        ("zero:L1H2@*<3", "pattern of head 2, layer 1, from all positions to position 3: 0, and "
         "the rest of the pattern as it is"),
        ("zero:L0H1>L2H3.k", "what L0H1 writes, as L2H3.k reads it: zero"),
        ('steer:L4.resid_post+8*unembed(" a")', "residual stream behind layer 4: plus 8 times the "
         "unembedding of “ a”"),
        ("steer:L4.resid_mid+50%*embed(7)", "residual stream before the MLP of layer 4: plus 50% "
         "of its norm along the embedding of id 7"),
        ("steer:L4.attn+-1*contrast(-1)", "attention output of layer 4: plus -1 times the second "
         "prompt's activation at position -1 less this one's"),
        ("zero:positions@0", "token 0 without position"),
        ("shift:L1.positions+2", "in layer 1, all tokens treated as +2 positions"),
        ("swap:positions@3,5", "tokens 3,5 treated as if each stood where the other does"),
    ],
)  # fmt: skip
def test_sentences(text, sentence):
    (edit,) = parse(text)
    assert in_words(edit) == sentence
