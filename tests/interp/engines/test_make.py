import pytest

from interp.engines import LocalEngine, RayEngine, make_engine
from interp.errors import InputError


def test_engines_by_name():
    assert make_engine() == make_engine("local") == LocalEngine()
    assert make_engine("ray", workers=3, gpus_per_worker=0.5, stall_seconds=7) == RayEngine(
        workers=3, gpus_per_worker=0.5, stall_seconds=7
    )


@pytest.mark.parametrize(
    ("name", "settings", "rule"),
    [
        ("dask", {}, "unknown engine 'dask'"),
        ("local", {"workers": 2}, "the local engine is one worker .* Received {'workers': 2}"),
        ("ray", {"workers": 0}, "workers must be a whole number of at least 1. Received 0"),
        ("ray", {"threads_per_worker": 1.5}, "threads_per_worker must be a whole .* Received 1.5"),
        ("ray", {"cpus_per_worker": 0}, "cpus_per_worker must be a number and positive"),
        ("ray", {"cpus_per_worker": 1.5}, "cpus_per_worker must be one. Received 1.5"),
        ("ray", {"gpus_per_worker": -1}, "gpus_per_worker must be a number and not negative"),
        ("ray", {"stall_seconds": 0}, "stall_seconds must be a number and positive. Received 0"),
        ("ray", {"address": " "}, "address must name a cluster. Received ' '"),
    ],
)
def test_settings_that_break_a_rule_are_refused(name, settings, rule):
    with pytest.raises(InputError, match=rule):
        make_engine(name, **settings)
