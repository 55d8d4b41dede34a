import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from pydantic import Field

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

import interp
from analyses import Analysis, AnalysisResult, Check, Parameters, register, registry
from dashboards import cli
from dashboards.commands.terminal import print_result
from interp.charts import Chart


class GapParams(Parameters):
    gap: float = Field(0.0, description="The deviation that its check reports.", ge=0)
    label: str = Field("x", description="What the row is called.")
    seed: int = Field(0, description="Seed.")


class Gap(Analysis[GapParams]):
    name = "gap"
    question = "Is the gap [small]?"
    needs_model = False

    def run(self, model, params):
        if params.label == "crash":
            raise RuntimeError("two\nlines")
        if params.label == "interrupt":
            raise KeyboardInterrupt
        table = pd.DataFrame({"label": [params.label] * 12, "i": range(12), "gap": params.gap})
        chart = Chart(kind="bars", table="gaps", title="Gaps", alt="The gap", x="i", value="gap")
        checks = [Check("gap is small", params.gap, 1.0)]
        return self.result(
            model, params, tables={"gaps": table}, figures={"gaps": chart}, checks=checks
        )

    def quick(self, params):
        return params.model_copy(update={"label": "quick"})


class Needy(Gap):
    name = "needy"
    needs_model = True


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_import_all", lambda: None)
    register(Gap)
    register(Needy)


@pytest.fixture
def call(capsys):
    """Run the command line; gives its exit code, stdout and stderr."""

    def call(*args):
        with pytest.raises(SystemExit) as end:
            cli.main([str(arg) for arg in args])
        return end.value.code, *capsys.readouterr()

    return call


def test_run_saves_and_tells(call, tmp_path):
    code, out, err = call("run", "gap", "--out", tmp_path / "r", "--set", "label=[/b]", "--seed", 4)
    assert (code, err) == (0, "")
    assert "[/b]" in out and "passed" in out and "Is the gap [small]?" in out
    assert "the last 2 left out" in out
    assert AnalysisResult.load(tmp_path / "r").provenance.seed == 4


def test_run_json_is_one_document(call, tmp_path):
    code, out, err = call("run", "gap", "--out", tmp_path / "r", "--json", "--set", "gap=0.5")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["passed"] is True
    assert document["checks"][0]["value"] == 0.5
    assert document["tables"]["gaps"]["rows"] == 12
    assert document["tables"]["gaps"]["head"][0] == {"label": "x", "i": 0, "gap": 0.5}
    assert document["provenance"]["parameters"]["gap"] == 0.5
    assert document["directory"] == str(tmp_path / "r")


def test_json_has_no_bare_infinity(call, tmp_path):
    code, out, _ = call("run", "gap", "--out", tmp_path / "r", "--json", "--set", "gap=inf")
    document = json.loads(out, parse_constant=pytest.fail)
    assert (code, document["checks"][0]["value"]) == (1, "Infinity")


def test_failed_check_is_saved_and_exits_1(call, tmp_path):
    code, _, err = call("run", "gap", "--out", tmp_path / "r", "--set", "gap=2")
    assert (code, err) == (1, "error: 1 of 1 checks failed: gap is small\n")
    assert not AnalysisResult.load(tmp_path / "r").passed


def test_quick_is_passed_on(call, tmp_path):
    call("run", "gap", "--out", tmp_path / "r", "--quick")
    assert AnalysisResult.load(tmp_path / "r").provenance.parameters["label"] == "quick"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "gpa", "--out", "r"], "unknown analysis 'gpa'; did you mean 'gap'?"),
        (["run", "gap", "--out", "r", "--set", "gap"], "--set takes key=value, got 'gap'"),
        (["run", "gap", "--out", "r", "--set", "gap=-1"], "gap: parameter 'gap': Input should be"),
        (["run", "gap", "--out", "r", "--set", "gpa=1"], "unknown parameter 'gpa'; did you mean"),
        (
            ["run", "gap", "--out", "r", "--seed", "1", "--set", "seed=2"],
            "--set seed is given twice",
        ),
        (["run", "gap", "--out", "full"], "full is not empty and not a saved result"),
        (["run", "gap", "--out", "r", "--device", "cpu"], "gap takes no model"),
        (["run", "needy", "--out", "r"], "needy needs a model: give --model"),
        (["run", "needy", "--out", "r", "--model", "m", "--dtype", "int8"], "--dtype takes"),
        (["run", "gap"], "Missing option '--out'"),
        (["show", "absent"], "absent is not a saved result"),
        (["no-such-command"], "No such command 'no-such-command'"),
        (["run", "gap", "--out", "r", "--no-such-option"], "No such option"),
        (["dashboard", "--port", "0"], "Invalid value for '--port'"),
    ],
)
def test_bad_requests_exit_2_with_one_line(call, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    code, out, err = call(*args)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
    assert os.listdir(tmp_path) == ["full"]


def test_a_crash_exits_1_with_one_line(call, tmp_path):
    code, _, err = call("run", "gap", "--out", tmp_path / "r", "--set", "label=crash")
    assert code == 1
    assert err == "error: RuntimeError: two lines (run with --debug for the traceback)\n"
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("first", [True, False])
def test_debug_shows_the_traceback_wherever_it_stands(call, tmp_path, first):
    request = ["run", "gap", "--out", str(tmp_path / "r"), "--set", "label=crash"]
    code, _, err = call(*(["--debug", *request] if first else [*request, "--debug"]))
    assert code == 1
    assert "Traceback" in err
    assert "RuntimeError: " in err


def test_interrupt_exits_130(call, tmp_path):
    code, _, _ = call("run", "gap", "--out", tmp_path / "r", "--set", "label=interrupt")
    assert code == 130


def test_model_is_loaded_as_asked(call, tmp_path, monkeypatch):
    import torch

    seen = {}

    def load_model(name, **kwargs):
        seen.update(kwargs, name=name)
        return SimpleNamespace(
            cfg=SimpleNamespace(model_name=name, dtype=torch.float64, device="cpu")
        )

    monkeypatch.setattr(interp, "load_model", load_model, raising=False)
    weights = SimpleNamespace(weight_hash=lambda model: "0" * 64)
    monkeypatch.setitem(sys.modules, "interp.weights", weights)
    code, _, err = call(
        "run", "needy", "--model", "tiny", "--dtype", "float64", "--device", "cpu",
        "--out", tmp_path / "r",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert seen == {"name": "tiny", "dtype": torch.float64, "device": "cpu"}
    assert AnalysisResult.load(tmp_path / "r").provenance.model == "tiny"


def test_show_prints_what_was_saved(call, tmp_path):
    call("run", "gap", "--out", tmp_path / "r")
    code, out, err = call("show", tmp_path / "r")
    assert (code, err) == (0, "")
    assert "gap is small" in out and "gaps (12 rows" in out and "torch=" in out
    code, out, _ = call("show", tmp_path / "r", "--json")
    assert code == 0 and json.loads(out)["name"] == "gap"


def test_of_much_the_head_is_printed(capsys):
    """A wide table turned, other tables by name, and of the checks those that failed."""
    table = pd.DataFrame({"model": ["one", "two"], **{f"c{i}": [i, i + 0.5] for i in range(12)}})
    tables = {"wide": table} | {f"t{i}": table for i in range(12)}
    checks = [Check(f"check {i}", 0.0, 1.0) for i in range(13)] + [Check("broken", 2.0, 1.0)]
    print_result(
        Gap().result(None, GapParams(), tables=tables, figures={}, checks=checks),
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["model", "one", "two"] in lines and ["c11", "11", "11.5"] in lines
    assert ["t11", "2"] in lines and lines.count(["model", "one", "two"]) == 1
    assert ["13", "checks", "passed"] in lines
    assert [line[:2] for line in lines if "FAILED" in line] == [["FAILED", "broken"]]
    assert not any("check" in line and "0" in line for line in lines)


def test_analyses_are_listed(call):
    code, out, _ = call("analyses", "--json")
    found = {each["name"]: each for each in json.loads(out)["analyses"]}
    assert code == 0 and set(found) == {"gap", "needy"}
    assert found["gap"]["needs_model"] is False
    assert found["gap"]["parameters"][0] == {
        "name": "gap",
        "type": "float",
        "default": 0.0,
        "bounds": ">= 0",
        "help": "The deviation that its check reports.",
    }
    code, out, _ = call("analyses")
    assert code == 0 and "Is the gap [small]?" in out and "(no model)" in out


def test_models_are_listed(call, monkeypatch):
    entry = SimpleNamespace(name="zoo:x", description="A tiny one", metrics={"loss": 0.5})
    family = SimpleNamespace(name="gpt2", description="GPT-2", architectures=["GPT2LMHeadModel"])
    zoo = SimpleNamespace(entries=lambda: {"zoo:x": entry})
    pretrained = SimpleNamespace(families=lambda: [family])
    for name, module in (("zoo", zoo), ("pretrained", pretrained)):
        monkeypatch.setattr(interp, name, module, raising=False)
        monkeypatch.setitem(sys.modules, f"interp.{name}", module)
    code, out, _ = call("models", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["zoo"] == [
        {"name": "zoo:x", "description": "A tiny one", "metrics": {"loss": 0.5}}
    ]
    assert document["families"][0]["architectures"] == ["GPT2LMHeadModel"]
    code, out, _ = call("models")
    assert code == 0 and "loss=0.5" in out and "GPT2LMHeadModel" in out


def test_families_are_listed_with_what_is_checked(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = call("models", "--families", "--json")
    assert code == 0
    found = {family["name"]: family for family in json.loads(out)["families"]}
    assert "zoo" not in json.loads(out)
    assert found["Llama"]["architectures"] == ["LlamaForCausalLM", "LlamaModel"]
    assert {name: found[name]["shape"] for name in ("Llama", "BERT", "T5")} == {
        "Llama": "decoder", "BERT": "encoder", "T5": "encoder-decoder",
    }  # fmt: skip
    assert "later tokens change nothing earlier" in found["Llama"]["checked_with_verify"]
    assert "later tokens change nothing earlier" not in found["BERT"]["checked_with_verify"]
    assert "name and shape" in found["BERT"]["checked_on_loading"]
    code, out, _ = call("models", "--families")
    assert code == 0
    assert "Gemma2ForCausalLM" in out and "encoder-decoder" in out
    assert "logits are Hugging Face's" in out and "zoo:" not in out


def test_dashboard_starts_streamlit(call, monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "require_extra", lambda *_: None)
    monkeypatch.setattr(os, "execv", lambda path, command: seen.extend(command))
    code, _, _ = call("dashboard", "--port", 9000, "--model", "a", "--model", "b", "--runs", "d")
    assert code == 0
    assert seen[:3] == [sys.executable, "-m", "dashboards.serve"]
    assert seen[3].endswith("app.py") and seen[4:6] == ["--server.port", "9000"]
    assert seen[seen.index("--") + 1 :] == ["--model", "a", "--model", "b", "--runs", "d"]


def test_dashboard_without_streamlit_names_the_extra(call, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, err = call("dashboard")
    assert (code, out) == (2, "")
    assert err == "error: streamlit is not installed: pip install 'interp[dashboard]'\n"


def test_version(call):
    code, out, _ = call("--version")
    assert code == 0 and out.startswith("interp ")


def test_nothing_asked_shows_help(call):
    code, out, _ = call()
    assert code == 2 and "Usage: interp" in out and "dashboard" in out


def test_as_a_process():
    done = subprocess.run(
        [sys.executable, "-m", "dashboards.cli", "show", "absent"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: absent is not a saved result")
    assert done.stderr.count("\n") == 1
