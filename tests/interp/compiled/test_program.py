"""Hooks that are compiled in act in every run, and those that cannot are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from interp import HookedTransformer, InputError
from tests.interp.kinds import KINDS, Change, everything, given_to, some_tokens

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]

pytestmark = pytest.mark.usefixtures("traced")


@pytest.fixture
def model(make_model: MakeModel) -> HookedTransformer:
    return make_model(**KINDS["gpt2"])


@pytest.fixture
def small(make_model: MakeModel) -> HookedTransformer:
    """Of one layer, where nothing depends on there being two."""
    return make_model(**{**KINDS["gpt2"], "n_layers": 1})


@pytest.mark.parametrize(("kind", "in_place"), [("gpt-oss", False), ("gpt2", True)])
def test_an_edit_at_every_hook(
    make_model: MakeModel, assert_close: AssertClose, kind: str, in_place: bool
) -> None:
    """Half of the hooks of each kind at once, and everything recorded."""
    model = make_model(**{**KINDS[kind], "n_layers": 1, "attn_types": None}, dtype=torch.float64)
    given = given_to(model)
    for part in range(2):
        names = [n for i, n in enumerate(model.hook_dict) if i % 2 == part]
        hooks = [(name, Change(in_place, place=1)) for name in names]
        compiled = model.compile(everything, fwd_hooks=hooks)
        output, cache = compiled.run_with_cache(**given)
        with torch.no_grad(), model.hooks(hooks):
            expected, expected_cache = model.run_with_cache(**given, names_filter=everything)
        assert_close(output, expected)
        assert cache.keys() == expected_cache.keys()
        for name, tensor in expected_cache.items():
            assert_close(cache[name].double(), tensor.double(), name, 1e-10)


def test_tensors_that_a_hook_reads_are_read_anew(
    small: HookedTransformer, assert_close: AssertClose
) -> None:
    model = small
    direction, scale = torch.rand(24), torch.tensor(2.0)
    reader = nn.Linear(24, 24)

    def steer(x: Tensor, hook: Any) -> Tensor:
        return reader(x) + scale * direction

    hooks = [("blocks.0.hook_resid_post", steer)]
    compiled, tokens = model.compile(fwd_hooks=hooks), some_tokens()
    first = compiled(tokens)
    assert_close(first, model.run_with_hooks(tokens, fwd_hooks=hooks))
    direction.mul_(-1)
    scale.fill_(0.5)
    with torch.no_grad():
        reader.weight.mul_(3)
    assert_close(compiled(tokens), model.run_with_hooks(tokens, fwd_hooks=hooks))
    assert float((compiled(tokens) - first).abs().max()) > 1e-2
    assert compiled.n_graphs == 1
    reader.weight.data = reader.weight.data * 2
    assert_close(compiled(tokens), model.run_with_hooks(tokens, fwd_hooks=hooks))
    assert compiled.n_graphs == 2


class _Steering:
    def __init__(self) -> None:
        self.direction = torch.rand(24)
        self.reader = nn.Sequential(nn.Linear(24, 24))
        self.last: Any = None

    def __call__(self, x: Tensor, hook: Any) -> Tensor:
        return self.reader(x) + self.direction


def test_tensors_that_are_replaced(small: HookedTransformer, assert_close: AssertClose) -> None:
    """Of a hook object, of its module, and of a function around it."""
    model = small
    steering, scale = _Steering(), torch.tensor(2.0)
    tokens = some_tokens()

    def scaled(x: Tensor, hook: Any) -> Tensor:
        return steering(x, hook) * scale

    hooks = [("blocks.0.hook_resid_post", scaled)]
    compiled = model.compile(fwd_hooks=hooks, max_graphs=1)

    def is_right(n_graphs: int) -> None:
        with torch.no_grad(), model.hooks(hooks):
            expected = model(tokens, stop_at_layer=1)
        assert_close(compiled(tokens, stop_at_layer=1), expected)
        assert compiled.n_graphs == n_graphs

    is_right(1)
    steering.direction = torch.rand(24)
    is_right(2)
    steering.reader[0].weight = nn.Parameter(torch.rand(24, 24))
    is_right(3)
    steering.reader = nn.Sequential(nn.Linear(24, 24))
    is_right(4)
    scale = torch.tensor(-1.0)
    is_right(5)
    steering = _Steering()
    is_right(6)
    steering.last = torch.rand(3)  # which it does not read
    is_right(6)
    del steering.reader  # to be found out by the hook itself
    with pytest.raises(AttributeError, match="reader"):
        compiled(tokens)


def test_what_a_hook_adds_up_is_counted_once_a_run(
    small: HookedTransformer, assert_close: AssertClose
) -> None:
    count, total = torch.zeros(()), torch.zeros(24)
    calls: list[str] = []

    def add_up(x: Tensor, hook: Any) -> None:
        calls.append(hook.name)
        count.add_(1)
        total.add_(x.sum((0, 1)))

    name = "blocks.0.hook_resid_post"
    compiled = small.compile(fwd_hooks=[(name, add_up)])
    expected = torch.zeros(24)
    for seed in range(3):
        compiled(some_tokens(seed=seed))
        expected += small.run_with_cache(some_tokens(seed=seed))[1][name].sum((0, 1))
        assert count == seed + 1
        assert_close(total, expected)
    assert calls == [name], "Python runs once"


def test_a_tensor_made_of_the_hooks_own(
    model: HookedTransformer, assert_close: AssertClose
) -> None:
    own, name = torch.rand(3, 5, 24), "blocks.1.hook_resid_pre"
    compiled = model.compile("blocks.1.*", [(name, lambda x, hook: own * 2)])
    compiled(some_tokens())
    own.mul_(-1)
    assert_close(compiled.run_with_cache(some_tokens())[1][name], own * 2)


def test_a_tensor_of_the_hooks_own(model: HookedTransformer, assert_close: AssertClose) -> None:
    own = torch.rand(3, 5, 24)
    name = "blocks.1.hook_resid_pre"
    hooks = [(name, lambda x, hook: own)]
    compiled = model.compile("blocks.1.*", fwd_hooks=hooks)
    output, cache = compiled.run_with_cache(some_tokens())
    assert_close(output, model.run_with_hooks(some_tokens(), fwd_hooks=hooks))
    assert torch.equal(cache[name], own)
    assert cache[name].data_ptr() == own.data_ptr()


def test_hooks_fire_in_order_and_at_globs(
    model: HookedTransformer, assert_close: AssertClose
) -> None:
    hooks: Any = [
        ("blocks.*.hook_mlp_out", lambda x, hook: x + 1 + hook.layer()),
        (lambda n: n.endswith("1.hook_mlp_out"), lambda x, hook: x * 3),
    ]
    compiled = model.compile(fwd_hooks=hooks)
    assert_close(compiled(some_tokens()), model.run_with_hooks(some_tokens(), fwd_hooks=hooks))


class TestRefusals:
    def test_hooks_that_look_at_values(self, small: HookedTransformer) -> None:
        def run(fn: Any) -> None:
            small.compile(fwd_hooks=[("blocks.0.hook_resid_mid", fn)])(some_tokens())

        functions: list[Any] = [
            lambda x, hook: x * float(x.max()),
            lambda x, hook: x * x.mean().item(),
            lambda x, hook: x if x.sum() > 0 else -x,
            lambda x, hook: x - x[x > 0].mean(),
            lambda x, hook: x * x.tolist()[0][0][0],
            lambda x, hook: x * torch.as_tensor(x.detach().numpy()),
        ]
        for fn in functions:
            with pytest.raises(
                InputError, match=r"hook at blocks\.0\.hook_resid_mid failed.*not look at values"
            ):
                run(fn)
        assert not small.watched_hooks()[0]
        run(lambda x, hook: x.masked_fill(x > 0, 0.0))
        run(lambda x, hook: torch.where(x > x.mean(), x, 0.0))

    def test_hooks_that_keep_what_they_are_given(self, small: HookedTransformer) -> None:
        kept: list[Tensor] = []
        own = torch.ones(3)
        name = "blocks.0.hook_resid_post"

        def put_away(x: Tensor, hook: Any) -> None:
            hook.ctx["x"] = x

        functions: list[Any] = [
            lambda x, hook: kept.append(x[0].detach()),
            lambda x, hook: kept.append(own + x.mean()),
            put_away,
        ]
        for fn in functions:
            with pytest.raises(
                InputError, match=r"must not keep .* hooks at blocks\.0\.hook_resid_post does"
            ):
                small.compile(fwd_hooks=[(name, fn)])(some_tokens())
            small.clear_contexts()
            kept.clear()
        small.compile(fwd_hooks=[(name, lambda x, hook: kept.append(x.shape))])(some_tokens())  # type: ignore[arg-type]

    def test_errors_of_hooks_are_their_own(self, model: HookedTransformer) -> None:
        def fails(x: Tensor, hook: Any) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            model.compile(fwd_hooks=[("hook_embed", fails)])(some_tokens())
        with pytest.raises(InputError, match="must keep every axis but the batch"):
            model.compile(fwd_hooks=[("hook_embed", lambda x, hook: x[:, 1:])])(some_tokens())
        assert not model.watched_hooks()[0]

    def test_hooks_that_are_not_reached(self, model: HookedTransformer) -> None:
        compiled = model.compile(fwd_hooks=[("blocks.1.hook_resid_pre", lambda x, hook: x * 2)])
        with pytest.raises(InputError, match=r"not reached in this run: blocks\.1\.hook_resid_pre"):
            compiled(some_tokens(), stop_at_layer=1)
        compiled(some_tokens(), return_type=None)


def test_a_run_that_a_hook_starts_is_not_recorded(
    model: HookedTransformer, assert_close: AssertClose
) -> None:
    name = "blocks.0.hook_resid_pre"
    inner = model.cfg

    def look_ahead(x: Tensor, hook: Any) -> Tensor:
        assert inner is model.cfg
        return x + model(x * 2, start_at_layer=1, stop_at_layer=2)

    hooks = [(name, look_ahead)]
    compiled = model.compile("blocks.*.hook_resid_post", fwd_hooks=hooks)
    _, cache = compiled.run_with_cache(some_tokens())
    with torch.no_grad(), model.hooks(hooks):
        _, expected = model.run_with_cache(some_tokens(), names_filter="blocks.*.hook_resid_post")
    for key in expected:
        assert_close(cache[key], expected[key])
