"""Where tensors lie: one device or several, how much room there is, and copies between them.

`load_model(…, device_map=…)` and `HookedTransformer.to_devices` spread a model: `device_map` says
which part goes where, `placement` moves it and what it computes. `memory` counts bytes.
"""
