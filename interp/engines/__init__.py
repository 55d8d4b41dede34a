"""Many independent pieces of work, done by one worker here or by a pool of them on Ray.

```python
engine = make_engine("ray", workers=4)               # "local": one worker, in this process
engine.run(open_worker, range(100), done=lambda item, result: print(item, result))
```

`open_worker` opens a `Worker`, which does the pieces; `interp.harvest.worker` is one.
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
