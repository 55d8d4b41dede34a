import pytest
import torch

from interp import HookedTransformer, HookedTransformerConfig
from interp.zoo.recipes.repeats import N_CTX, evaluate, repeated_rows, training_rows


def test_predictable_tokens_follow_from_earlier_ones_and_no_others_do():
    rows = training_rows(torch.Generator().manual_seed(0), 200)
    assert rows.tokens.shape == rows.predictable.shape == (200, N_CTX)
    assert rows.tokens[:, 0].eq(0).all()
    assert rows.tokens[:, 1:].min() >= 1
    for tokens, predictable in zip(rows.tokens.tolist(), rows.predictable.tolist(), strict=True):
        for i in range(1, N_CTX):
            earlier = [j for j in range(1, i - 1) if tokens[j] == tokens[i - 1]]
            follows = len(earlier) == 1 and tokens[earlier[0] + 1] == tokens[i]
            assert follows == predictable[i]


def test_repeats_begin_at_many_places_and_distances():
    rows = training_rows(torch.Generator().manual_seed(0), 2000)
    first = rows.predictable.int().argmax(1)
    length = rows.predictable.sum(1) + 1
    assert set(length.tolist()) == set(range(4, 25))
    assert len(set(first.tolist())) > 50
    assert first[length == 24].unique().numel() > 10


def test_repeated_rows_say_everything_twice():
    rows = repeated_rows(torch.Generator().manual_seed(0), 5, 12)
    assert rows.shape == (5, 25)
    assert rows[:, 1:13].equal(rows[:, 13:])
    assert all(len(set(row)) == 13 for row in rows[:, :13].tolist())


@pytest.fixture
def blank():
    """A model of uniform attention and uniform predictions."""
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=4, n_heads=1, n_ctx=N_CTX, d_vocab=64, attn_only=True, device="cpu"
    )
    model = HookedTransformer(cfg)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def test_scores_of_uniform_attention(blank):
    scores = evaluate(blank, seed=0, batch=2, lengths=[10])
    assert scores.loss == pytest.approx(torch.tensor(64.0).log().item())
    uniform = 1 / torch.arange(1, 22)  # what each position gives to each it sees
    torch.testing.assert_close(scores.previous_token, uniform[1:].mean().view(1, 1))
    torch.testing.assert_close(scores.induction, uniform[11:].mean().view(1, 1))
    assert set(scores.columns()) == {"repeat_loss", "previous_token.L0H0", "induction.L0H0"}


def test_scores_of_heads_made_by_hand(blank):
    """A pattern put there by a hook scores 1 for what it was made to do and 0 for the other."""
    length = 10

    def back(distance, start):
        pattern = torch.eye(2 * length + 1)
        for pos in range(start, 2 * length + 1):
            pattern[pos] = torch.eye(2 * length + 1)[pos - distance]
        return lambda tensor, hook: pattern.expand_as(tensor)

    for distance, start, wanted in ((1, 1, (1, 0)), (length - 1, length + 1, (0, 1))):
        with blank.hooks([("blocks.0.attn.hook_pattern", back(distance, start))]):
            scores = evaluate(blank, seed=0, batch=2, lengths=[length])
        assert (scores.previous_token.item(), scores.induction.item()) == wanted
