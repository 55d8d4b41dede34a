"""Many independent pieces of work, done by one worker here or by a pool of them on Ray.

engine = make_engine("ray", workers=4)
engine.run(open_worker, range(100), done=lambda item, result: print(item, result))
"""

from interp.engines.base import Engine, EngineError, OpenWorker, Worker
from interp.engines.local import LocalEngine
from interp.engines.make import ENGINES, make_engine
from interp.engines.ray import RayEngine

__all__ = [
    "ENGINES",
    "Engine",
    "EngineError",
    "LocalEngine",
    "OpenWorker",
    "RayEngine",
    "Worker",
    "make_engine",
]
