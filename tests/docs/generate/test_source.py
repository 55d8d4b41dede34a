"""Names found in the source are those that Python finds."""

from __future__ import annotations

import importlib
import inspect

import pytest

from docs.generate import source
from docs.generate.api import public_modules


@pytest.mark.parametrize("module", public_modules())
def test_public_names_are_what_python_finds(module):
    loaded = importlib.import_module(module)
    names = source.public_names(module)
    assert names
    if hasattr(loaded, "__all__"):
        assert names == list(loaded.__all__)
    for name in names:
        found, value = source.find(f"{module}.{name}"), getattr(loaded, name)
        assert found is not None, name
        if found.kind in ("class", "function"):
            unwrapped = inspect.unwrap(value)
            assert found.path == f"{unwrapped.__module__}.{unwrapped.__qualname__}"
            assert found.summary == source.summary(inspect.getdoc(unwrapped) or ""), name
        else:
            assert (found.kind == "module") == inspect.ismodule(value), name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("interp", "module"),
        ("interp.deterministic", "function"),  # its module has the same name
        ("interp.utils.test_prompt", "function"),  # behind it an attribute of it is set
        ("interp.Patch", "class"),  # loaded when it is used
        ("interp.HookedTransformer.run_with_cache", "function"),
        ("interp.HookedTransformer.hook_dict", "value"),  # set on self, in a base class
        ("interp.HookedTransformerConfig.d_model", "value"),
        ("interp.HookedTransformerConfig.nonsense", None),
        ("interp.HookedTransformer.run_with_cache.nonsense", None),
        ("interp.nonsense", None),
        ("nonsense", None),
    ],
)
def test_kinds(name, kind):
    found = source.find(name)
    assert (None if found is None else found.kind) == kind


def test_modules_are_the_files():
    files = {
        path.relative_to(source.ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in (source.ROOT / "interp").rglob("*.py")
    }
    expected = {name.removesuffix(".__init__") for name in files if not name.endswith("__main__")}
    assert set(source.modules("interp")) == expected
