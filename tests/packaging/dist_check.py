"""Whether a wheel and an sdist hold what they must, and work where there is no checkout.

    python -m tests.packaging.dist_check dist     # `make dist-check`

Each is installed into an empty environment. There the commands that a newcomer tries first are run,
without extras (they must say which one is missing) and with them, and the dashboard is opened in
Chromium. The first thing that is not as it must be ends the run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from urllib.parse import urlencode

from tests.packaging.environment import Done, Environment

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("interp", "analyses", "dashboards")
MUST_HOLD = (
    "interp/py.typed", "analyses/py.typed", "dashboards/py.typed", "dashboards/style.css",
    "dashboards/.streamlit/config.toml", "interp/zoo/weights/induction/model.safetensors",
    "interp/zoo/weights/translation/tokenizer.json",
    "analyses/superposition/shipped/dynamics/result.json",
)  # fmt: skip
BESIDE = {
    "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", "constraints.txt",
    "pyproject.toml", "PKG-INFO", ".gitignore",
}  # fmt: skip
PROMPT = {"model": "zoo:induction", "prompt": "k d R 7 q k d R"}


def tracked() -> set[str]:
    """The files of the packages that git tracks, or would."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "--", *PACKAGES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}


def contents(archive: Path) -> dict[str, bytes]:
    """What is in a wheel, or in the one folder of an sdist, by path."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    found = {}
    with tarfile.open(archive) as sdist:
        for member in sdist:
            if member.isfile():
                file = sdist.extractfile(member)
                assert file is not None
                found[member.name.partition("/")[2]] = file.read()
    return found


def check_contents(archive: Path, expected: set[str]) -> None:
    """Nothing is missing, nothing is too much, and nothing tells of the machine that built it."""
    held = contents(archive)
    beside = {name for name in held if name.split("/")[0] not in PACKAGES}
    if archive.suffix == ".whl":
        info = {name.split("/")[0] for name in beside}
        assert len(info) == 1 and next(iter(info)).endswith(".dist-info"), beside
    else:
        assert beside == BESIDE, beside ^ BESIDE
    inside = set(held) - beside
    assert inside == expected, sorted(inside ^ expected)[:20]
    assert set(MUST_HOLD) <= inside, set(MUST_HOLD) - inside
    for name in held:
        assert not {"__pycache__", "tests"} & set(Path(name).parts), name
    for word in (f"{ROOT}/", f"{Path.home()}/", f"{tempfile.gettempdir()}/tmp"):
        told = [name for name, data in held.items() if word.encode() in data]
        assert not told, f"{word} stands in {told}"
    size = sum(map(len, held.values())) / 2**20
    print(f"{archive.name}: {len(held)} files, {size:.1f} MiB; as git has them")


def check_bare(place: Environment) -> None:
    """Without extras: lists and models work, and what needs more says which extra."""
    assert "head-attribution" in _good(place, "interp", "analyses").told
    assert "zoo:induction" in _good(place, "interp", "models").told
    tiny = (
        "import torch, interp\n"
        "cfg = interp.HookedTransformerConfig(n_layers=1, d_model=8, n_heads=2, n_ctx=9,"
        " d_vocab=5, act_fn='gelu')\n"
        "_, cache = interp.HookedTransformer(cfg).run_with_cache(torch.tensor([[1, 2, 3]]))\n"
        "print(cache['pattern', 0].shape)"
    )
    assert "[1, 2, 3, 3]" in _good(place, "python", "-c", tiny).told
    for command, extra in (("demo", "[hf,plots]"), ("dashboard", "[dashboard]")):
        refused = place.call("interp", command)
        assert refused.code == 2 and f"pip install 'interp{extra}'" in refused.told, refused.told
        assert refused.told.count("\n") == 1, refused.told


def check_demo(place: Environment) -> float:
    """The demo from start to report; gives its seconds."""
    done = _good(place, "interp", "demo")
    made = place.folder / "runs" / "demo"
    assert (made / "report.html").stat().st_size > 10_000 and list(made.glob("figures/*.svg"))
    assert json.loads((made / "result.json").read_text())["provenance"]["model"] == "zoo:induction"
    assert "zoo:induction" in _good(place, "interp", "show", "runs/demo").told
    again = place.call("python", "-c", "import interp; print(interp.__file__)")
    assert str(place.folder) in again.told and str(ROOT) not in again.told
    return done.seconds


def check_dashboard(place: Environment) -> None:
    """It answers, and pages are drawn to their end in a browser; then it is stopped."""
    from playwright.sync_api import expect

    from benchmarks.browser import chromium, serving, settled

    log = place.folder / "dashboard.txt"
    program = [str(place.bin / "interp")]
    started = {"cwd": place.folder, "env": place.variables}
    with (
        serving(["--runs", "runs"], log, program, 300.0, **started) as address,
        chromium() as browser,
    ):
        with urllib.request.urlopen(address) as answer:
            assert answer.status == 200
        expect.set_options(timeout=120_000)
        page = browser.new_page()
        page.set_default_timeout(120_000)
        for path, title in (("prompt", "Prompt"), ("attention", "Attention"), ("runs", "Saved")):
            page.goto(f"{address}/{path}?{urlencode(PROMPT)}")
            settled(page)
            expect(page.locator("h1")).to_contain_text(title)
            for failure in ("stException", "stAlertContentError"):
                expect(page.get_by_test_id(failure)).to_have_count(0)
        expect(page.get_by_text("All 3 checks passed.")).to_be_visible()
    assert "Traceback" not in log.read_text(), log.read_text()


def _good(place: Environment, *command: str) -> Done:
    done = place.call(*command)
    assert done.code == 0, f"{' '.join(command)} ended with {done.code}:\n{done.told}"
    return done


def check_use(archive: Path, scratch: Path) -> None:
    """Install an archive into an empty environment, and use it."""
    place = Environment(scratch / archive.suffix[1:], ROOT / "constraints.txt")
    if archive.suffix == ".whl":
        seconds = place.install(archive).seconds
        check_bare(place)
        print(f"{archive.name}: without extras, installed in {seconds:.0f} s: as promised")
    seconds = place.install(archive, "hf", "plots").seconds
    print(f"{archive.name}: [hf,plots] installed in {seconds:.0f} s")
    print(f"{archive.name}: the demo took {check_demo(place):.1f} s", flush=True)
    place.install(archive, "hf", "plots", "dashboard")
    check_dashboard(place)
    print(f"{archive.name}: the dashboard draws its pages", flush=True)


def main(folder: Path) -> None:
    """Check the two archives in a folder."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    for archive in (wheel, sdist):
        check_contents(archive, tracked())
    with tempfile.TemporaryDirectory(prefix="interp-dist-") as scratch:
        for archive in (wheel, sdist):
            check_use(archive, Path(scratch))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
