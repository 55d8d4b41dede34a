from __future__ import annotations

import pytest
import torch

from analyses.weights.tables import Texts
from analyses.weights.vocabulary import vocabulary_table


def test_norms_and_cosines_of_each_token(make_model):
    model = make_model(normalization_type=None, final_norm=False)
    table = vocabulary_table(model, Texts(model))
    assert table["token_id"].tolist() == list(range(31))
    for i in range(31):
        written, read = model.W_E[i], model.W_U[:, i]
        assert table["embedding_norm"][i] == pytest.approx(float(written.norm()), rel=1e-5)
        assert table["unembedding_norm"][i] == pytest.approx(float(read.norm()), rel=1e-5)
        cosine = float(torch.cosine_similarity(written, read, dim=0))
        assert table["cosine"][i] == pytest.approx(cosine, abs=1e-6)


def test_tokens_without_an_output_have_no_cosine(make_model):
    model = make_model(d_vocab_out=20)
    table = vocabulary_table(model, Texts(model))
    assert table["cosine"][:20].notna().all() and table["cosine"][20:].isna().all()
    assert table["unembedding_norm"][20:].isna().all() and table["embedding_norm"].notna().all()


def test_classes_are_no_tokens(make_model):
    from interp import zoo

    model = zoo.load("zoo:brackets")
    table = vocabulary_table(model, Texts(model))
    assert table["cosine"].isna().all() and (table["embedding_norm"] > 0).all()
