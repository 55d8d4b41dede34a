import importlib
import json

import pytest

from interp import zoo
from interp.zoo.recipes.analysis_defaults import PAIR_ANALYSES, PROMPT_ANALYSES, defaults_for


@pytest.mark.parametrize("name", zoo.entries())
def test_an_entry_has_the_defaults_of_its_recipe(name):
    """A recipe that is run again writes what ships."""
    entry = zoo.entries()[name]
    module, *arguments = entry.recipe.split()
    defaults = importlib.import_module(module).DEFAULTS
    if "--task" in arguments:
        defaults = defaults[arguments[arguments.index("--task") + 1]]
    assert entry.defaults == defaults
    assert json.loads(json.dumps(defaults)) == defaults


def test_each_analysis_has_settings_of_its_own():
    defaults = defaults_for("a b", {"clean": ["a"], "corrupted": ["b"]})
    assert set(defaults) == {*PROMPT_ANALYSES, *PAIR_ANALYSES}
    assert defaults["logit-lens"] == {"prompt": "a b"}
    defaults["ablations"]["clean"] = []
    assert defaults["circuit-search"]["clean"] == ["a"]
