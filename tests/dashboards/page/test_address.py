"""Choices, their widgets, and the address that says them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")

from streamlit.testing.v1 import AppTest

import dashboards.page.address
from analyses import list_analyses
from dashboards.page.address import MAX_CHOICES, SHARED_NAMES
from dashboards.page.kept_texts import IN_ADDRESS
from tests.dashboards.screen import said


def _page(runs: str) -> None:
    from pathlib import Path

    import streamlit as st

    from dashboards.page.address import Address
    from dashboards.page.kept_texts import KeptTexts

    address = Address(st.session_state.get("page", "page"), KeptTexts(Path(runs)))
    for fault in address.faults:
        st.error(fault)
    page = address.page
    st.text(f"prompt {address.shared.text('prompt', 'Prompt', '')!r}")
    st.text(f"line {page.line('line', 'Line', 'as it is')!r}")
    st.text(f"whole {page.number('whole', 'Whole', 3, 1, 9, 1)!r}")
    st.text(f"share {page.number('share', 'Share', 0.5, 0.0, 1.0, 0.1, slider=True)!r}")
    st.text(f"heads {page.several('heads', 'Head', range(4), [0, 1])!r}")
    address.drop_unknown()
    address.publish()


@pytest.fixture
def open_choices(tmp_path):
    def open_choices(**query):
        app = AppTest.from_function(_page, args=(str(tmp_path / "runs"),))
        app.query_params.update(query)
        return app.run()

    return open_choices


def values(app):
    assert not app.exception
    return dict(element.value.split(" ", 1) for element in app.text)


DEFAULTS = {"line": "as it is", "whole": "3", "share": "0.5", "heads": "0,1"}


def test_an_empty_address_gives_the_defaults_and_says_them(open_choices):
    app = open_choices()
    assert values(app) == {
        "prompt": "''", "line": "'as it is'", "whole": "3", "share": "0.5", "heads": "[0, 1]",
    }  # fmt: skip
    assert dict(app.query_params) == DEFAULTS


def test_an_address_gives_what_it_says(open_choices):
    app = open_choices(prompt="a b", line="x", whole="9", share="1.0", heads="3,0")
    assert values(app) == {
        "prompt": "'a b'", "line": "'x'", "whole": "9", "share": "1.0", "heads": "[0, 3]",
    }  # fmt: skip
    assert app.number_input[0].value == 9 and app.slider[0].value == 1.0
    assert app.multiselect[0].value == [0, 3] and not app.warning


def test_widgets_write_the_address(open_choices):
    app = open_choices()
    app.number_input[0].set_value(7)
    app.slider[0].set_value(0.2)
    app.multiselect[0].set_value([2])
    app.text_input[0].set_value("").run()
    assert values(app) == {
        "prompt": "''", "line": "''", "whole": "7", "share": "0.2", "heads": "[2]",
    }  # fmt: skip
    assert dict(app.query_params) == {"line": "", "whole": "7", "share": "0.2", "heads": "2"}
    app.multiselect[0].set_value([]).run()
    assert values(app)["heads"] == "[]" and app.query_params["heads"] == ""


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"whole": "10"}, "Whole lies in 1 … 9, not '10'. Shown: 3."),
        ({"whole": "1.5"}, "Whole lies in 1 … 9, not '1.5'. Shown: 3."),
        ({"share": "nan"}, "Share lies in 0.0 … 1.0, not 'nan'. Shown: 0.5."),
        ({"share": "-1"}, "Share lies in 0.0 … 1.0, not '-1'. Shown: 0.5."),
        ({"heads": "0,9,1"}, "There is no head '9' here."),
        ({"other": "1"}, "This page does not know 'other', which the address holds."),
    ],
)
def test_what_is_asked_for_in_vain_is_told(open_choices, query, message):
    app = open_choices(**query)
    assert said(app.warning) == [message]
    assert dict(app.query_params) == DEFAULTS


def chosen_twice(open_choices):
    """A page whose choices were made, and made anew; and the address in between."""
    app = open_choices(prompt="first", whole="2")
    before = dict(app.query_params)
    app.text_area[0].set_value("second")
    app.number_input[0].set_value(5).run()
    assert values(app)["prompt"] == "'second'" and app.query_params["whole"] == "5"
    return app, before


def test_going_back_takes_the_address_again(open_choices, monkeypatch):
    app, before = chosen_twice(open_choices)
    went_back = SimpleNamespace(is_history_navigation=True)  # as the browser says
    monkeypatch.setattr(dashboards.page.address, "get_script_run_ctx", lambda **_: went_back)
    app.query_params.clear()
    app.query_params.update(before)
    app.run()
    assert values(app)["prompt"] == "'first'" and values(app)["whole"] == "2"
    assert app.text_area[0].value == "first" and app.number_input[0].value == 2
    assert dict(app.query_params) == before


def test_a_click_made_before_the_address_was_written_undoes_nothing(open_choices):
    app, before = chosen_twice(open_choices)
    app.query_params.clear()
    app.query_params.update(before)  # where the reader clicked, it stood there still
    app.slider[0].set_value(0.2).run()
    assert values(app)["prompt"] == "'second'" and values(app)["whole"] == "5"
    assert values(app)["share"] == "0.2"
    assert dict(app.query_params) == before | {"prompt": "second", "whole": "5", "share": "0.2"}


def test_a_click_made_on_the_address_that_was_opened_undoes_nothing(open_choices):
    opened = {"prompt": "first", "whole": "2"}
    app = open_choices(**opened)
    app.number_input[0].set_value(5).run()
    app.query_params.clear()
    app.query_params.update(opened)
    app.slider[0].set_value(0.2).run()
    assert (values(app)["whole"], values(app)["share"]) == ("5", "0.2")


def test_a_click_after_a_link_may_tell_the_address_of_the_page_before(open_choices):
    app, _ = chosen_twice(open_choices)
    stale = dict(app.query_params)
    app.session_state["page"] = "other"
    app.query_params.clear()
    app.run()
    app.text_area[0].set_value("third").run()
    app.query_params.clear()
    app.query_params.update(stale)  # written after the link was clicked
    app.slider[0].set_value(0.2).run()
    assert values(app) == {
        "prompt": "'third'", "line": "'as it is'", "whole": "3", "share": "0.2", "heads": "[0, 1]",
    }  # fmt: skip


def test_a_long_text_is_referred_to_by_its_hash(open_choices):
    app = open_choices()
    text = "long " * IN_ADDRESS
    app.text_area[0].set_value(text).run()
    name = app.query_params["prompt"]
    assert name.startswith("sha256-") and values(app)["prompt"] == repr(text)
    other = open_choices(prompt=name)
    assert other.text_area[0].value == text and other.query_params["prompt"] == name


def test_an_address_of_another_dashboards_text_is_told(open_choices):
    name = f"sha256-{'0' * 64}"
    app = open_choices(prompt=name, whole="4")
    assert name in said(app.error)[0]
    assert values(app)["prompt"] == "''" and values(app)["whole"] == "4"


def test_a_text_that_is_too_long_is_an_error(open_choices):
    app = open_choices()
    app.text_area[0].set_value("x" * 200_001).run()
    assert "200000 characters at most" in app.exception[0].value


def test_an_address_is_bounded(open_choices):
    app = open_choices(**{f"x{i}": "1" for i in range(MAX_CHOICES + 1)})
    assert said(app.error) == [
        f"An address holds {MAX_CHOICES} choices at most, not {MAX_CHOICES + 1}."
    ]
    assert dict(app.query_params) == DEFAULTS


def test_no_analysis_has_a_parameter_that_all_pages_share():
    shared = {name for each in list_analyses() for name in each.Params.model_fields}
    assert shared & set(SHARED_NAMES) == {"prompt"}  # which the side gives
