from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")

from dashboards import edits
from dashboards.page.script import script
from dashboards.page.subject import Subject, open_model, read, read_output, read_target
from dashboards.readings.base import inputs_of
from interp.interventions import applied
from tests.dashboards.screen import PROMPT
from tests.dashboards.scripts import run_script

BODY = """
import pandas as pd
logits = model(**inputs)[0, -1]
table = pd.DataFrame({"logit": logits.tolist(), "grad": logits.requires_grad})
"""


@pytest.fixture
def subject(words_model, fresh_caches):
    loaded = open_model(str(words_model))
    return Subject(loaded, read(loaded, PROMPT, True), True)


def expected(subject):
    with torch.no_grad(), applied(subject.loaded.model, subject.plan, **inputs_of(subject)):
        return subject.loaded.model(**inputs_of(subject))[0, -1].tolist()


def test_a_script_runs_the_model_on_the_prompt(subject):
    found = run_script(script(subject, BODY))
    assert found["logit"].tolist() == expected(subject) and not found["grad"].any()


def test_a_script_for_gradients_keeps_them(subject):
    assert run_script(script(subject, BODY, grad=True))["grad"].all()


def test_a_script_makes_the_interventions(subject):
    text = "zero:L0H1; scale:L1MLP*0.5"
    plan = edits.plan(text, subject.loaded.model, subject.tokens)
    edited = replace(subject, edits=text, plan=plan)
    found = run_script(script(edited, BODY))
    assert found["logit"].tolist() == expected(edited) != expected(subject)


def test_interventions_that_are_off_are_not_in_the_script(subject):
    assert "plan" not in script(replace(subject, edits="zero:L0H1"), BODY)


def test_a_script_holds_the_second_prompt_and_the_answers(subject):
    full = replace(
        subject,
        other=read(subject.loaded, "the dog", True),
        answer=read_output(subject.loaded, "mat"),
        wrong=read_output(subject.loaded, "#5"),
    )
    body = "import pandas as pd\ntable = pd.DataFrame({'x': [*other_tokens[0], answer, wrong]})"
    found = [int(x) for x in run_script(script(full, body))["x"]]
    assert found == [*full.other.tokens, full.answer, full.wrong]


def test_hostile_prompts_stay_texts(words_model, fresh_caches):
    loaded = open_model(str(words_model))
    prompt = "the ' \" \\ ''' {x} \n cat # * \u2028 </script>"
    subject = Subject(loaded, read(loaded, prompt, False), False)
    body = "table = tokens"
    assert run_script(script(subject, body))[0].tolist() == list(subject.tokens)


def test_ids_without_a_tokenizer(mute_model, fresh_caches):
    loaded = open_model(str(mute_model))
    subject = Subject(loaded, read(loaded, "3 14 15", False), None)
    assert run_script(script(subject, BODY))["logit"].tolist() == expected(subject)


def test_an_encoder_decoder_reads_two_rows(fresh_caches):
    loaded = open_model("zoo:translation")
    source = read(loaded, "I see the key.", True)
    subject = Subject(loaded, source, True, decoder=read_target(loaded, source, "Eu"))
    found = run_script(script(subject, BODY))
    assert isinstance(found, pd.DataFrame)
    assert found["logit"].tolist() == expected(subject)
