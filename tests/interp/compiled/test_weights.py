"""Programs compute with the weights that the model has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer
from tests.interp.compiled.same import assert_same
from tests.interp.kinds import KINDS, some_tokens

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]


@pytest.mark.usefixtures("traced")
class TestWeights:
    """Programs compute with the weights that the model has."""

    def test_what_is_written_into_them_shows(
        self, make_model: MakeModel, assert_close: AssertClose
    ) -> None:
        model = make_model(**KINDS["llama"])
        compiled, tokens = model.compile(), some_tokens()
        before = compiled(tokens)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1.1)
        assert_close(compiled(tokens), model(tokens))
        assert float((compiled(tokens) - before).abs().max()) > 1e-3
        model.load_state_dict({n: x * 0.9 for n, x in model.state_dict().items()})
        assert_close(compiled(tokens), model(tokens))
        assert compiled.n_graphs == 1

    def test_others_in_their_place(self, make_model: MakeModel, assert_close: AssertClose) -> None:
        fields = {"n_layers": 1, "positional_embedding_type": "none", "act_fn": "relu"}
        model = make_model(**fields)
        compiled, tokens = model.compile(), some_tokens()
        compiled(tokens)
        state = {n: x.clone() * 1.1 for n, x in model.state_dict().items()}
        model.load_state_dict(state, assign=True)
        assert_close(compiled(tokens), model(tokens))
        assert compiled.n_graphs == 2
        for p in model.parameters():
            p.data = p.data * 0.9
        assert_close(compiled(tokens), model(tokens))
        assert compiled.n_graphs == 3
        W = model.blocks[0].attn.W_O  # [head, d_head, d_model] = [4, 6, 24]
        W.data = W.data.reshape(24, 24).T.reshape(W.shape)
        assert_close(compiled(tokens), model(tokens))
        W.data = W.data.as_strided(W.shape, (1, 4, 24))  # the same memory, in another order
        assert_close(compiled(tokens), model(tokens))
        assert compiled.n_graphs == 5
        model.to(torch.float64)
        assert compiled(tokens).dtype == torch.float64
        assert_close(compiled(tokens), model(tokens))
        assert compiled.n_graphs == 6
        model.blocks[0].mlp.W_in = torch.nn.Parameter(model.blocks[0].mlp.W_in * 2)
        assert_close(compiled(tokens), model(tokens))
        model.blocks[0].ln1 = make_model(**fields, dtype=torch.float64).blocks[0].ln1
        with torch.no_grad():
            model.blocks[0].ln1.w.mul_(2)
        assert_close(compiled(tokens), model(tokens))
        assert compiled.n_graphs == 8

    def test_settings_of_the_config(self, make_model: MakeModel, assert_close: AssertClose) -> None:
        model = make_model(**KINDS["llama"])
        names = "blocks.*.attn.hook_k"
        compiled, tokens = model.compile(names), some_tokens()
        for ungroup in (False, True, False):
            model.set_ungroup_grouped_query_attention(ungroup)
            expected = model.run_with_cache(tokens, names_filter=names)
            assert_same(assert_close, compiled.run_with_cache(tokens), expected)
        assert compiled.n_graphs == 2
