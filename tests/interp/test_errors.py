import pytest

from interp.errors import InputError, MissingExtraError, require_extra, unknown


def test_unknown_names_the_closest_match_and_lists_the_rest():
    message = str(unknown("analysis", "logit-lense", ["probe", "logit-lens"]))
    assert message == (
        "unknown analysis 'logit-lense'; did you mean 'logit-lens'? (known: logit-lens, probe)"
    )


def test_unknown_without_a_match_makes_no_guess():
    assert str(unknown("model", "zzz", [])) == "unknown model 'zzz' (known: none)"


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_missing_extra_says_how_to_install_it():
    require_extra("json", "plots")
    with pytest.raises(MissingExtraError, match=r"pip install 'interp\[plots\]'"):
        require_extra("no_such_module", "plots")
