"""A form made from the parameters of an analysis."""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from analyses import Analysis
from dashboards.page.address import Choices, set_widget
from dashboards.settings import describe, parse_settings, require_no_paths

_COLUMNS = 3
_LARGEST = 2**53 - 1  # whole number that a field shows: a browser counts no further
_TEXTS = "list[str"  # parameters of such a type have a field of several lines


def settings_form(
    analysis: type[Analysis[Any]],
    choices: Choices,
    defaults: Mapping[str, Any],
    left_out: Sequence[str],
    buttons: Sequence[str] = ("Run",),
) -> tuple[dict[str, Any], str | None]:
    """Draw the form and give the settings that were last submitted.

    Args:
        analysis: Its parameters are the fields.
        choices: Where submitted settings are kept: those that differ from their defaults.
        defaults: Values that suit the model better than the analysis's own defaults.
        left_out: Parameters that come from elsewhere.
        buttons: What submits the form; the first stands out.

    Returns:
        The settings, and the button that was pressed just now, if one was.

    Raises:
        InputError: If a setting cannot be read as a value of its parameter, or names a model that
            no page opens.
    """
    fields = [field for field in describe(analysis.Params) if field["name"] not in left_out]
    values = {field["name"]: field["default"] for field in fields}
    values |= {name: value for name, value in defaults.items() if name in values}
    texts = {field["name"]: _shown(field, values[field["name"]]) for field in fields}
    with st.form(choices.key("form")):
        columns = st.columns(_COLUMNS)
        for i, field in enumerate(fields):
            with columns[i % _COLUMNS]:
                _widget(choices, field, texts[field["name"]])
        pressed = _buttons(choices, texts, buttons)
    for field in fields:
        name = field["name"]
        asked = choices.asked(name, texts[name])
        if asked is not None:
            choices.shown[name] = asked
            values[name] = _value(analysis, field, asked)
    require_no_paths(analysis.Params, values)
    return values, pressed


def _buttons(choices: Choices, texts: Mapping[str, str], labels: Sequence[str]) -> str | None:
    pressed = None
    with st.container(horizontal=True):
        for i, label in enumerate(labels):
            kind = "secondary" if i else "primary"
            if st.form_submit_button(label, type=kind, on_click=_submit, args=(choices, texts)):
                pressed = label
    return pressed


def _widget(choices: Choices, field: dict[str, Any], default: str) -> None:
    name, key = field["name"], choices.key(field["name"])
    label = name.replace("_", " ").capitalize()
    help = f"{field['help']} ({field['bounds']})" if field["bounds"] else field["help"]
    text = choices.kept.get(name, default)
    options = _options(field["type"])
    if options:
        set_widget(key, text if text in options else default)
        st.selectbox(label, options, key=key, help=help)
    elif field["type"] == "int":
        least, most = _limits(field["bounds"])
        set_widget(key, _whole(text, int(default), least, most))
        st.number_input(label, least, most, step=1, key=key, help=help)
    elif _TEXTS in field["type"]:
        set_widget(key, text)
        help = f'{help} Several as a list in JSON: ["…", "…"].'
        st.text_area(label, key=key, help=help, placeholder="left to the analysis", height=100)
    else:
        set_widget(key, text)
        st.text_input(label, key=key, help=help, placeholder="left to the analysis")


def _submit(choices: Choices, texts: Mapping[str, str]) -> None:
    for name in texts:
        choices.keep(name, _text(st.session_state[choices.key(name)]))


def _value(analysis: type[Analysis[Any]], field: dict[str, Any], text: str) -> Any:
    """A setting as the command line would read it; nothing typed is None where that is allowed."""
    if not text and "null" in field["type"].split(" | "):
        return None
    return parse_settings(analysis.Params, [f"{field['name']}={text}"])[field["name"]]


def _shown(field: dict[str, Any], value: Any) -> str:
    """A default as its widget shows it: a list of texts, where one text would do, in lines."""
    kinds = field["type"].split(" | ")
    if "str" not in kinds or not isinstance(value, list):
        return _text(value)
    if len(value) > 1 or (value and str(value[0])[:1] in ("[", "{")):
        return json.dumps(value, ensure_ascii=False, indent=1)
    return str(value[0]) if value else ""


def _text(value: Any) -> str:
    """A value as the reader would type it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _options(type: str) -> list[str]:
    """What a parameter takes, if that is one of a few values."""
    if "[" in type:
        return []
    if type in ("bool", "bool | null"):
        return ["true", "false"] + [""] * type.endswith("null")
    parts = type.split(" | ")
    if not any(part.startswith(("'", '"')) for part in parts):
        return []
    return ["" if part == "null" else _text(ast.literal_eval(part)) for part in parts]


def _limits(bounds: str) -> tuple[int | None, int | None]:
    """The least and the largest whole number within bounds such as `>= 1, < 100`."""
    found = dict(rule.split() for rule in bounds.split(", ") if rule)
    least = int(found[">="]) if ">=" in found else int(found[">"]) + 1 if ">" in found else None
    most = int(found["<="]) if "<=" in found else int(found["<"]) - 1 if "<" in found else None
    return least, most


def _whole(text: str, default: int, least: int | None, most: int | None) -> int:
    """What a number field shows: the default where it cannot show what was asked for."""
    try:
        value = int(text)
    except ValueError:
        return default
    low = -_LARGEST if least is None else least
    fits = low <= value <= (_LARGEST if most is None else most)
    return value if fits else default
