"""Jobs in real processes of their own, and the steps of one in this process."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from analyses import AnalysisResult, registry
from dashboards import jobs
from dashboards.jobs import launch, store, worker
from dashboards.jobs.process import Process
from interp import InputError
from interp.progress import report
from tests.dashboards.jobs import patient

SCRIPT = Path(patient.__file__)
PATIENT_RUN = patient.Patient.run


@pytest.fixture(autouse=True)
def waiting(monkeypatch):
    """The patient analysis, known here and to workers."""
    registry.list_analyses()
    monkeypatch.setitem(registry._registered, "patient", patient.Patient)
    monkeypatch.setattr(launch, "WORKER", (sys.executable, str(SCRIPT)))


@pytest.fixture
def runs(tmp_path):
    """A directory of runs, none of whose jobs is left behind."""
    folder = tmp_path / "runs"
    yield folder
    for job in jobs.find(folder):
        job.cancel()


@pytest.fixture
def unlaunched(monkeypatch):
    """Jobs are asked for, but no process is started."""
    monkeypatch.setattr(launch, "_launch", lambda folder: None)


@pytest.fixture
def here(monkeypatch):
    """A worker's work may be done in this process."""
    monkeypatch.setattr(worker, "_note", lambda folder: None)  # it would be ended as the worker
    monkeypatch.setattr(worker.os, "nice", lambda more: 0)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker.signal, "pthread_sigmask", lambda *_: None)


def wait_for(happened, job=None, seconds=60):
    due = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < due, job and (job.state, job.log())
        time.sleep(0.02)


def test_two_work_at_once_and_the_third_waits_for_a_place(runs, tmp_path, monkeypatch):
    never = str(tmp_path / "never")
    first = jobs.start(runs, "patient", settings={"until": never, "child": True})
    with monkeypatch.context() as ended:  # the server, before it noted the process
        ended.setattr(launch, "Process", SimpleNamespace(of=lambda pid: None))
        second = jobs.start(runs, "patient", settings={"until": never})
    third = jobs.start(runs, "patient", settings={"value": 2.5}, name="third")
    wait_for(lambda: "child" in first.log() and second.progress and second.progress.line, second)
    wait_for(lambda: (first.progress.line, second.progress.line) == ("a quarter",) * 2, first)
    assert [job.state for job in (first, second, third)] == ["running", "running", "queued"]
    assert first.progress.done == 0.25 and first.seconds > 0 and third.seconds == 0
    # A server that comes later finds them as they are, from the directory alone.
    assert [(job.id, job.state) for job in jobs.find(runs)] == [
        (third.id, "queued"), (second.id, "running"), (first.id, "running"),
    ]  # fmt: skip
    assert os.getsid(first.process.pid) == first.process.pid != os.getsid(0)

    child = Process.of(int(first.log().split("child ")[1].split()[0]))
    first.cancel()
    assert first.state == "cancelled" and not first.process.alive and not child.alive
    wait_for(lambda: third.outcome, third)
    assert (third.state, third.outcome.run) == ("done", "third")
    assert AnalysisResult.load(runs / "third").tables["waits"]["value"].tolist() == [2.5]
    assert "saved as third" in third.log()

    os.kill(second.process.pid, signal.SIGKILL)
    wait_for(lambda: second.outcome, second)
    assert second.state == "failed" and "ended without a word" in second.outcome.fault
    assert "waiting" in second.log()
    assert sorted(path.name for path in runs.iterdir()) == [".jobs", "third"]
    first.cancel()  # what has ended is left as it is
    third.cancel()
    assert (first.state, third.state) == ("cancelled", "done")


def test_a_job_saves_its_run_under_a_free_name(runs, unlaunched, here):
    for number in (1, 2):
        job = jobs.start(runs, "patient", settings={"value": number}, name="same")
        assert job.state == "queued"
        assert worker.main(job.folder) == 0
        assert (job.state, job.progress.done) == ("done", 1.0)
    assert job.outcome.run == "same-2"
    values = [
        AnalysisResult.load(runs / run).tables["waits"]["value"][0] for run in ("same", "same-2")
    ]
    assert values == [1.0, 2.0]
    assert not (job.folder / store.RESULT).exists()


@pytest.mark.parametrize(
    ("settings", "fault", "logged"),
    [
        ({"fault": "no *such* thing"}, "no *such* thing", False),
        ({"crash": True}, "RuntimeError: <b>by accident</b>", True),
    ],
)
def test_a_job_that_fails_says_why(runs, unlaunched, here, capfd, settings, fault, logged):
    job = jobs.start(runs, "patient", settings=settings)
    assert worker.main(job.folder) == 1
    assert (job.state, job.outcome.fault) == ("failed", fault)
    assert ("Traceback" in capfd.readouterr().err) == logged  # what the log has
    assert [path.name for path in runs.iterdir()] == [".jobs"]


def test_a_result_that_is_half_written_is_no_run(runs, unlaunched, here, monkeypatch):
    def stopped(self, directory):
        Path(directory).mkdir()
        (Path(directory) / "result.json").write_text("{")
        raise SystemExit(143)

    job = jobs.start(runs, "patient")
    monkeypatch.setattr(AnalysisResult, "save", stopped)
    with pytest.raises(SystemExit):
        worker.main(job.folder)
    job.cancel()
    assert job.state == "cancelled"
    assert [path.name for path in runs.iterdir()] == [".jobs"]
    assert not (job.folder / store.RESULT).exists()


def test_a_dead_or_recycled_process_is_told_from_a_live_one(runs, unlaunched):
    job = jobs.start(runs, "patient")
    own = Process.of(os.getpid())
    assert own is not None and own.alive
    store.write(job.folder / store.PROCESS, own)
    assert job.state == "queued"
    other = Process(pid=os.getpid(), started="at another time")
    store.write(job.folder / store.PROCESS, other)
    assert job.state == "failed"
    other.end()  # which would end this one, were it taken for the other


def test_a_request_without_a_worker_is_lost_after_a_while(runs, unlaunched, monkeypatch):
    job = jobs.start(runs, "patient")
    assert job.outcome is None
    monkeypatch.setattr(store, "_UNBORN", -1.0)
    assert (job.state, job.outcome.fault) == ("failed", "its worker was never started")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"analysis": "no-such"}, "unknown analysis 'no-such'"),
        ({"settings": {"value": -1}}, "parameter 'value'"),
        ({"settings": {"colour": 1}}, "unknown parameter"),
        ({"name": "../up"}, "a run's name takes letters"),
        ({"name": "x" * 101}, "100 at most"),
        ({"model": "zoo:induction"}, "takes no model. Received 'zoo:induction'"),
        ({"analysis": "head-scores"}, "head-scores needs a model"),
        ({"kind": "shell"}, "unknown kind of job 'shell'"),
        (
            {
                "analysis": "position-report",
                "model": "zoo:induction",
                "settings": {"beside": ["/etc"]},
            },
            "'/etc'",
        ),
    ],
)
def test_what_cannot_be_done_is_no_job(runs, unlaunched, asked, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        jobs.start(runs, **{"analysis": "patient", **asked})
    assert jobs.find(runs) == []


def test_jobs_are_bounded_in_number(runs, unlaunched, monkeypatch):
    monkeypatch.setattr(launch, "MOST_UNFINISHED", 2)
    monkeypatch.setattr(launch, "MOST_FINISHED", 3)
    started = [jobs.start(runs, "patient") for _ in range(2)]
    with pytest.raises(InputError, match="2 jobs at most"):
        jobs.start(runs, "patient")
    for _ in range(5):
        for job in started:
            job.cancel()
        started = [jobs.start(runs, "patient")]
    assert [job.state for job in jobs.find(runs)] == ["queued", *["cancelled"] * 3]


def test_damaged_directories_are_passed_over(runs, unlaunched):
    job = jobs.start(runs, "patient")
    folder = runs / store.FOLDER
    (folder / "notes").mkdir()
    broken = folder / job.id.replace(job.id[-8:], "00000000")
    broken.mkdir()
    (broken / store.REQUEST).write_text(json.dumps({"analysis": 3}))
    assert jobs.find(runs) == [job]
    with pytest.raises(InputError, match="there is no job"):
        jobs.get(runs, broken.name)
    with pytest.raises(InputError, match="there is no job"):
        jobs.get(runs, "../../etc")
    assert jobs.get(runs, job.id) == job


def test_a_job_that_was_cancelled_before_its_worker_began_does_nothing(runs, unlaunched, here):
    job = jobs.start(runs, "patient")
    job.cancel()
    assert worker.main(job.folder) == 1
    assert (job.state, job.progress) == ("cancelled", None)
    assert [path.name for path in runs.iterdir()] == [".jobs"]


@pytest.mark.parametrize("which", ["request", "process", "launch"])
def test_a_full_disk_is_told_and_leaves_nothing(runs, monkeypatch, which):
    """Whatever cannot be written: no worker goes on that no page knows of."""
    full = OSError(errno.ENOSPC, "No space left on device")
    written = store.write

    def write(path, document):
        if path.name == {"request": store.REQUEST, "process": store.PROCESS}.get(which):
            raise full
        written(path, document)

    started = []

    def start(*given, **more):
        if which == "launch":
            raise full
        started.append(popen(["sleep", "600"], **more))
        return started[-1]

    popen = subprocess.Popen
    monkeypatch.setattr(launch, "write", write)
    monkeypatch.setattr(launch.subprocess, "Popen", start)
    with pytest.raises(InputError, match=r"cannot be started: .*No space left on device"):
        jobs.start(runs, "patient")
    assert jobs.find(runs) == [] and list((runs / store.FOLDER).iterdir()) == []
    assert len(started) == (which == "process") and all(each.wait(20) != 0 for each in started)


def test_a_fault_that_is_no_text_is_told(runs, unlaunched, here, monkeypatch):
    def fail(self, model, params):
        raise ValueError("a path: \udcff")

    monkeypatch.setattr(patient.Patient, "run", fail)
    job = jobs.start(runs, "patient")
    assert worker.main(job.folder) == 1
    assert job.outcome.fault == "ValueError: a path: \\udcff"


def test_progress_beyond_the_whole_is_the_whole(runs, unlaunched, here, monkeypatch):
    heard = []

    def run(self, model, params):
        report(1.0 + 1e-9, "almost")
        heard.append(job.progress)
        return PATIENT_RUN(self, model, params)

    monkeypatch.setattr(patient.Patient, "run", run)
    monkeypatch.setattr(worker, "_BETWEEN_WRITES", 0.0)
    job = jobs.start(runs, "patient")
    assert worker.main(job.folder) == 0
    assert heard[0].done == 1.0


def damaged(job, **documents):
    for name, text in documents.items():
        (job.folder / f"{name}.json").write_text(text)
    return job


@pytest.mark.parametrize(
    ("documents", "state"),
    [
        ({"outcome": '{"state": "done", "run": "../../elsewhere", "ended": 1}'}, "queued"),
        ({"outcome": '{"state": "done", "run": "/etc", "ended": 1}'}, "queued"),
        ({"outcome": '{"state": "failed", "fault": "\\ud800", "ended": 1}'}, "queued"),
        ({"outcome": '{"state": "done", "ended": Infinity}'}, "queued"),
        ({"outcome": "[" * 100_000}, "queued"),
        ({"progress": '{"done": NaN, "began": 1}'}, "queued"),
        ({"progress": '{"done": 7, "began": 1}'}, "queued"),
        ({"progress": '{"done": 1, "began": -Infinity}'}, "queued"),
        ({"progress": '{"done": 1, "began": -1e300}'}, "running"),
        ({"process": '{"pid": -1, "started": "now"}'}, "queued"),
        ({"process": '{"pid": 1e400, "started": "now"}'}, "queued"),
    ],
)
def test_hostile_documents_of_a_job_are_as_if_they_were_not_there(
    runs, unlaunched, documents, state
):
    job = damaged(jobs.start(runs, "patient"), **documents)
    (found,) = jobs.find(runs)
    assert found.state == job.state == state
    assert found.process is None and (found.outcome is None) and found.seconds >= 0
    job.cancel()
    job.cancel()
    assert job.state == "cancelled"


def test_links_and_pipes_of_a_job_are_not_read(runs, unlaunched, tmp_path):
    job = jobs.start(runs, "patient")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (job.folder / store.LOG).symlink_to(secret)
    assert job.log() == ""
    os.mkfifo(job.folder / store.PROGRESS)
    assert job.state == "queued"
    elsewhere = tmp_path / "elsewhere"
    job.folder.rename(elsewhere)
    (runs / store.FOLDER / job.id).symlink_to(elsewhere)
    assert jobs.find(runs) == []


def test_a_request_from_the_future_waits_no_longer_than_others(runs, unlaunched):
    job = jobs.start(runs, "patient")
    for created, state in ((time.time() + 1e6, "failed"), (time.time(), "queued")):
        store.write(job.folder / store.REQUEST, job.request.model_copy(update={"created": created}))
        assert jobs.get(runs, job.id).state == state


def test_the_log_ends_with_the_last_lines(runs, unlaunched):
    job = jobs.start(runs, "patient")
    assert job.log() == ""
    text = "".join(f"line {i}\n" for i in range(9000)) + "10%\r55%\r100%\r\nпоследняя \xff\n"
    (job.folder / store.LOG).write_bytes(text.encode("utf-8")[:-2] + b"\xff\n")
    assert job.log(3).splitlines()[:-1] == ["line 8999", "100%"]
    assert job.log(3).splitlines()[-1].startswith("последняя")
