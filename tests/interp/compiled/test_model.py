"""Compiled runs give what the model gives, by as few programs as they can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from interp import ActivationCache, HookedTransformer, InputError, KeyValueCache
from interp.compiled.model import CompiledModel
from tests.covering import EXHAUSTIVE, slow
from tests.interp.compiled.same import assert_same
from tests.interp.kinds import KINDS, everything, given_to, some_tokens, with_padding

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]

# Those left out differ from these only in numbers, in what is elementwise, or in combining them.
TRACED = [
    "multi-query", "parallel-grouped-bare", "gemma2", "stablelm2", "full-ungrouped", "gpt-oss",
    "dynamic", "bloom", "bert", "classifier", "t5",
]  # fmt: skip
if EXHAUSTIVE:  # which other tests here compile
    TRACED += ["gpt2", "gptj", "llama", "bidirectional-tied", "shortformer", "marian"]
PADDED = {"none": None, "left": True, "right": False}
LONG_ENOUGH = {"rotary_scaling": {"kind": "dynamic", "factor": 4.0, "original_n_ctx": 5}}


def _fields(kind: str) -> dict[str, Any]:
    fields = {**KINDS[kind], **(LONG_ENOUGH if kind == "dynamic" else {})}
    # Two layers only where they differ, and once where they do not.
    return fields if "attn_types" in fields or kind == "llama" else {**fields, "n_layers": 1}


def _given(model: HookedTransformer, padded: str) -> dict[str, Any]:
    left = PADDED[padded]
    given = given_to(model)
    return given if left is None else with_padding(given, [2, 0, 3], left)


@pytest.fixture
def n_compiled() -> Iterator[Callable[[], int]]:
    """How many graphs Dynamo has made, all of them without a break."""
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    assert not counters["graph_break"]
    torch._dynamo.reset()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("number", "kind"), list(enumerate(TRACED)), ids=TRACED)
def test_everything_of_every_kind_of_model_as_the_model_has_it(
    make_model: MakeModel, assert_close: AssertClose, kind: str, number: int
) -> None:
    """Exactly the same operations, so that fp32 shows no difference either."""
    model = make_model(**_fields(kind), dtype=torch.float64 if number % 2 else torch.float32)
    given = _given(model, list(PADDED)[number % 3])
    compiled = model.compile(everything)
    found = compiled.run_with_cache(**given)
    with torch.no_grad():
        expected = model.run_with_cache(**given, names_filter=everything)
    assert_same(assert_close, found, expected)
    assert found[1].nbytes == expected[1].nbytes
    assert compiled.n_graphs == 1
    assert not model.watched_hooks()[0]


@pytest.mark.parametrize(("kind", "padded"), [("shortformer", "left")])
def test_one_graph_without_breaks(
    make_model: MakeModel, assert_close: AssertClose, n_compiled: Any, kind: str, padded: str
) -> None:
    model = make_model(**_fields(kind))
    given = _given(model, padded)
    compiled = model.compile(everything, backend="eager")
    found = compiled.run_with_cache(**given)
    kept = {name: tensor.clone() for name, tensor in found[1].items()}
    assert n_compiled() == compiled.n_graphs == 1
    other = {name: x.flip(0) for name, x in given.items()}
    with torch.inference_mode():
        again = compiled.run_with_cache(**{n: x.clone() for n, x in other.items()})
    model.requires_grad_(False)
    compiled.run_with_cache(**{n: torch.cat([x, x], 1)[:, : x.shape[1]] for n, x in given.items()})
    assert n_compiled() == compiled.n_graphs == 1, "the same form compiles nothing anew"
    with torch.no_grad():
        expected = model.run_with_cache(**given, names_filter=everything)
        assert_same(assert_close, found, expected)
        expected = model.run_with_cache(**other, names_filter=everything)
    assert_same(assert_close, again, expected)
    for name, tensor in kept.items():
        assert torch.equal(found[1][name], tensor), f"{name} is written over by the next run"
    found[0].sum()
    assert not found[0].requires_grad


@slow
def test_inductor(make_model: MakeModel, assert_close: AssertClose, n_compiled: Any) -> None:
    """With a mask, records that share tensors, and a hook that writes into what it holds."""
    model = make_model(**{**KINDS["multi-query"], "n_layers": 1})
    given, count = _given(model, "left"), torch.zeros(24)

    def add_up(x: torch.Tensor, hook: Any) -> None:
        count.add_(x.shape[0])

    names = ["blocks.0.attn.hook_k", "blocks.0.attn.hook_v", "blocks.0.hook_resid_*"]
    compiled = model.compile(names, [("blocks.0.hook_attn_out", add_up)])
    found = compiled.run_with_cache(**given)
    second = compiled.run_with_cache(**given)
    assert n_compiled() == 1
    assert (count == 6).all()
    with torch.no_grad():
        expected = model.run_with_cache(**given, names_filter=names)
    assert_same(assert_close, found, expected)
    assert found[1].nbytes == expected[1].nbytes
    for name, tensor in second[1].items():
        assert tensor.data_ptr() != found[1][name].data_ptr(), name


@pytest.mark.usefixtures("traced")
class TestForms:
    """One program for each form of input, and no more than that."""

    @pytest.fixture
    def model(self, make_model: MakeModel) -> HookedTransformer:
        return make_model(**_fields("gpt2"))

    def test_counts_and_limit(self, model: HookedTransformer) -> None:
        compiled = model.compile("hook_embed", max_graphs=3)
        tokens = some_tokens()
        for _ in range(2):
            compiled(tokens)
            compiled.run_with_cache(tokens)
            compiled(tokens, return_type="loss")
        assert compiled.n_graphs == 3
        assert compiled.shapes == [{"given.tokens": (3, 5)}] * 3
        compiled(tokens.int()[:, ::1])  # the same form: they become int64
        with pytest.raises(InputError, match=r"max_graphs \(3\).*\[3, 5\].*Received .*\[2, 4\]"):
            compiled(tokens[:2, :4])
        with pytest.raises(
            InputError,
            match=r"differs: recording False, return_type 'logits'; recording True, return_type "
            r"'logits'; recording False, return_type 'loss'. Received recording True, return_type "
            r"'loss'\.$",
        ):
            compiled.run_with_cache(tokens, "loss")
        compiled(tokens)

    def test_programs_of_replaced_weights_do_not_count(
        self, model: HookedTransformer, assert_close: AssertClose
    ) -> None:
        compiled, tokens = model.compile(max_graphs=1), some_tokens()
        for n in range(1, 3):
            assert_close(compiled(tokens), model(tokens))
            model.unembed.W_U = torch.nn.Parameter(model.unembed.W_U * 1.1)
            assert_close(compiled(tokens), model(tokens))
            model.unembed.W_U.data = model.unembed.W_U.data.clone()
            assert compiled.n_graphs == 2 * n
            assert len(compiled.shapes) == 1

    def test_strides_and_rows(self, model: HookedTransformer, assert_close: AssertClose) -> None:
        compiled = model.compile()
        tokens = some_tokens(5, 6)
        for x in (tokens[:3, :5], tokens.T[:3], tokens[1:4, 1:], tokens[0, :5].expand(3, -1)):
            assert_close(compiled(x), model(x))
        assert compiled.n_graphs == 1
        assert_close(compiled(tokens[0]), model(tokens[0]))

    @pytest.mark.parametrize(("kind", "per_token"), [("gpt2", True), ("t5", False)])
    def test_losses(
        self, make_model: MakeModel, assert_close: AssertClose, kind: str, per_token: bool
    ) -> None:
        model = make_model(**_fields(kind))
        compiled = model.compile()
        given = _given(model, "right")
        expected = model(**given, return_type="both", loss_per_token=per_token)
        both = compiled(**given, return_type="both", loss_per_token=per_token)
        loss = compiled(given.pop("input"), "loss", per_token, **given)
        assert_close(both.logits, expected.logits)
        assert_close(both.loss, expected.loss)
        assert_close(loss, expected.loss)

    def test_loss_of_a_token_without_a_logit(self, make_model: MakeModel) -> None:
        compiled = make_model(n_layers=1, d_vocab_out=13).compile()
        compiled(some_tokens() % 13, return_type="loss")
        with pytest.raises(InputError, match="a logit for every token"):
            compiled(torch.full((3, 5), 20), return_type="loss")

    def test_part_of_the_layers(self, make_model: MakeModel, assert_close: AssertClose) -> None:
        model, tokens = make_model(**KINDS["gpt2"]), some_tokens()
        name = "blocks.1.hook_resid_mid"
        residual, cache = model.run_with_cache(tokens, stop_at_layer=1)
        compiled = model.compile(name)
        assert_close(compiled(tokens, stop_at_layer=1), residual)
        assert_close(compiled(tokens, stop_at_layer=-1), residual)
        loss, found = compiled.run_with_cache(residual, "loss", start_at_layer=1, tokens=tokens)
        expected, cache = model.run_with_cache(tokens, "loss")
        assert_close(loss, expected)
        assert_close(found[name], cache[name])
        with pytest.raises(InputError, match=r"not reached in this run: blocks\.1\.hook_resid_mid"):
            compiled.run_with_cache(tokens, stop_at_layer=1)
        assert compiled(residual, start_at_layer=1, stop_at_layer=1).data_ptr()

    def test_encoder_output(self, make_model: MakeModel, assert_close: AssertClose) -> None:
        model = make_model(**_fields("marian"))
        given = _given(model, "right")
        compiled = model.compile()
        encoded = model.encode(given["input"], attention_mask=given["attention_mask"])
        part = {n: x for n, x in given.items() if n.startswith("decoder_")}
        assert_close(compiled(**part, encoder_output=encoded), model(**given))
        assert_close(compiled(**given), model(**given))

    def test_nothing_returned_runs_no_further_than_wanted(
        self, make_model: MakeModel, assert_close: AssertClose
    ) -> None:
        model, tokens = make_model(**KINDS["gpt2"]), some_tokens()
        compiled = model.compile("blocks.0.hook_resid_post")
        output, cache = compiled.run_with_cache(tokens, return_type=None)
        assert output is None
        assert list(cache) == ["blocks.0.hook_resid_post"]
        expected = model.run_with_cache(tokens)[1]
        assert_close(cache["resid_post", 0], expected["resid_post", 0])
        (graph,) = (c.program.graph for c in compiled._compiled.values())
        read = {p.data_ptr() for p in graph.parameters()}
        names = {n for n, p in model.named_parameters() if p.data_ptr() in read}
        assert names == {
            n for n, _ in model.named_parameters() if n.startswith(("embed", "pos_", "blocks.0"))
        }
        assert compiled(tokens, return_type=None) is None

    @pytest.mark.parametrize("kind", ["gpt-oss", "classifier"])
    def test_mixtures_of_experts(
        self, make_model: MakeModel, assert_close: AssertClose, kind: str
    ) -> None:
        """Who computes for a token is read anew in each run."""
        model = make_model(**KINDS[kind])
        compiled = model.compile()
        for seed in range(3):
            tokens = some_tokens(seed=seed)
            assert_close(compiled(tokens), model(tokens))
        assert compiled.n_graphs == 1

    def test_nothing_computed_that_nobody_asked_for(self, make_model: MakeModel) -> None:
        def n_calls(names: Any) -> list[int]:
            compiled = make_model(**KINDS["llama"]).compile(names)
            compiled.run_with_cache(some_tokens())
            (graph,) = (c.program.graph for c in compiled._compiled.values())
            targets = [str(node.target) for node in graph.graph.nodes]
            return [sum(w in t for t in targets) for w in ("scaled_dot_product", "softmax")]

        assert n_calls(()) == [2, 0]
        assert n_calls("blocks.*.hook_resid_post") == [2, 0]
        assert n_calls("blocks.1.attn.hook_pattern") == [1, 1]

    def test_texts(self, make_model: MakeModel, assert_close: AssertClose) -> None:
        tokenizers = pytest.importorskip("tokenizers", reason="needs the extra 'hf'")
        transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
        words = {w: i for i, w in enumerate(["<s>", "<p>", "a", "b", "c", "d"])}
        plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="a"))
        plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=plain, bos_token="<s>", pad_token="<p>"
        )
        model = make_model(tokenizer, **_fields("gpt2"))
        compiled = model.compile("blocks.*.hook_resid_post")
        texts = ["a b c", "d"]
        for side in ("left", "right"):
            found = compiled.run_with_cache(texts, padding_side=side)
            expected = model.run_with_cache(
                texts, padding_side=side, names_filter="blocks.*.hook_resid_post"
            )
            assert_same(assert_close, found, expected)
        assert_close(compiled("a b"), model("a b"))
        assert compiled.n_graphs == 3


@pytest.mark.usefixtures("traced")
class TestRefusals:
    """What a compiled run would pass by is an error."""

    @pytest.fixture
    def model(self, make_model: MakeModel) -> HookedTransformer:
        return make_model(**_fields("gpt2"))

    def test_hooks_on_the_model(self, model: HookedTransformer) -> None:
        compiled = model.compile()
        compiled(some_tokens())
        for direction in ("fwd", "bwd"):
            model.add_hook("hook_embed", lambda x, hook: None, dir=direction)  # type: ignore[arg-type]
            with pytest.raises(InputError, match="Found on hook_embed"):
                compiled(some_tokens())
            with pytest.raises(InputError, match="Found on hook_embed"):
                model.compile()
            model.reset_hooks()
        model.add_perma_hook("hook_embed", lambda x, hook: None)
        with pytest.raises(InputError, match="Found on hook_embed"):
            compiled.run_with_cache(some_tokens())
        model.reset_hooks(including_permanent=True)
        model.run_with_cache(some_tokens(), names_filter="hook_embed", reset_hooks_end=False)
        with pytest.raises(InputError, match="Found on hook_embed"):
            compiled(some_tokens())
        model.reset_hooks()
        compiled(some_tokens())

    def test_torchs_hooks(self, model: HookedTransformer) -> None:
        compiled = model.compile()
        handle = model.blocks[0].mlp.register_forward_hook(lambda *_: None)
        with pytest.raises(InputError, match=r"compile\(fwd_hooks=…\).*A MLP has some"):
            compiled(some_tokens())
        handle.remove()
        handle = model.register_forward_pre_hook(lambda *_: None)
        with pytest.raises(InputError, match="A HookedTransformer has some"):
            compiled(some_tokens())
        handle.remove()
        compiled(some_tokens())

    def test_arguments(self, model: HookedTransformer) -> None:
        with pytest.raises(InputError, match="mode must be one of"):
            model.compile(mode="fast")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="mode is for the backend inductor"):
            model.compile(mode="reduce-overhead", backend="eager")
        with pytest.raises(InputError, match="max_graphs must be a whole number"):
            model.compile(max_graphs=0)
        with pytest.raises(InputError, match="no hook is called"):
            model.compile("hook_nowhere")
        with pytest.raises(InputError, match="no hook is called"):
            model.compile(fwd_hooks=[("hook_nowhere", lambda x, hook: x)])
        with pytest.raises(InputError, match="a hook must be callable"):
            model.compile(fwd_hooks=[("hook_embed", 3)])  # type: ignore[list-item]
        compiled = model.compile()
        cache = KeyValueCache.init_cache(model.cfg, "cpu", 3)
        with pytest.raises(InputError, match="no past_kv_cache"):
            compiled(some_tokens(), past_kv_cache=cache)
        with pytest.raises(InputError, match="no past_kv_cache"):
            compiled(some_tokens(), *["logits", False, *[None] * 6, cache])
        with pytest.raises(InputError, match=r"takes what forward takes.*Received device, dtype"):
            compiled.run_with_cache(some_tokens(), device="cpu", dtype=torch.float16)
        with pytest.raises(InputError, match="Received names_filter"):
            compiled(some_tokens(), names_filter=None)
        with pytest.raises(InputError, match="tokens must lie in"):
            compiled(some_tokens() + 31)
        with pytest.raises(InputError, match="attention_mask must be"):
            compiled(some_tokens(), attention_mask=torch.ones(3, 4))
        with (
            torch.autocast("cpu", dtype=torch.bfloat16),
            pytest.raises(InputError, match="autocast"),
        ):
            compiled(some_tokens())
        assert compiled.n_graphs == 0

    def test_dynamic_rotary_scaling_past_its_context(self, make_model: MakeModel) -> None:
        compiled = make_model(**_fields("dynamic")).compile()
        compiled(some_tokens(2, 5))
        with pytest.raises(InputError, match=r"original_n_ctx \(5\).*Received 6"):
            compiled(some_tokens(2, 6))


@pytest.mark.usefixtures("traced")
def test_cache_options(make_model: MakeModel) -> None:
    model = make_model(**KINDS["gpt2"])
    compiled = model.compile(None)
    assert compiled.names == model.match_hooks(None)
    _, cache = compiled.run_with_cache(some_tokens(1), remove_batch_dim=True)
    assert isinstance(cache, ActivationCache) and cache.model is model
    assert cache["resid_post", 1].shape == (5, 24)
    _, records = compiled.run_with_cache(some_tokens(1), return_cache_object=False)
    assert type(records) is dict and sorted(records) == sorted(compiled.names)
    with pytest.raises(InputError, match="remove_batch_dim"):
        compiled.run_with_cache(some_tokens(2), remove_batch_dim=True)


def test_outputs_of_cuda_graphs_outlive_the_next_run(
    make_model: MakeModel, assert_close: AssertClose
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA: CUDA graphs keep their outputs in memory of their own")
    model = make_model(**KINDS["gpt2"]).to("cuda")
    tokens = some_tokens().cuda()
    compiled = model.compile("blocks.*.hook_resid_post", mode="reduce-overhead")
    runs = [compiled.run_with_cache((tokens + i) % 31) for i in range(4)]
    for i, run in enumerate(runs):
        expected = model.run_with_cache((tokens + i) % 31, names_filter="blocks.*.hook_resid_post")
        assert_same(assert_close, run, expected)
    assert compiled.n_graphs == 1
    assert CompiledModel(model, mode="reduce-overhead", reuse_outputs=True)(tokens).shape[0] == 3
