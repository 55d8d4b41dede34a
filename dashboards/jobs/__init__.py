"""Long runs, each in a process of its own.

A job is a directory, `<runs>/.jobs/<id>/`:

    job.json       the request, written once
    process.json   the worker's process id and the time it started
    progress.json  how far it has come; there from the moment that it has begun
    result/        the result while it is written; renamed to `<runs>/<name>` when whole
    outcome.json   how it ended, written once
    log.txt        what the worker printed, on either stream
    …              what its kind of work leaves for a page to show meanwhile

Everything a page shows is read from there, so that it survives a reload and a restart of the
server. Workers have sessions of their own: they outlive the server that started them, go on, and
save their results, which the next server finds. At most `AT_ONCE` work at a time; the others wait
for those before them, which needs no server either.
"""

from dashboards.jobs.launch import find, get, start
from dashboards.jobs.request import Request
from dashboards.jobs.store import Job, Outcome, Progress

__all__ = ["Job", "Outcome", "Progress", "Request", "find", "get", "start"]
