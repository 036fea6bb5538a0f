"""The diffusion policy: loading a pipeline, LoRA, the differentiable sampler, keyed noise and the compute meter.

- `loading.py`  loads a folder or hub id in `StableDiffusionPipeline` layout as its parts, with clear errors
- `policy.py`   the parts with a LoRA adapter: prompts in, noise predictions and images out
- `sampler.py`  DDIM with eta and log-probabilities, per-row timesteps, gradients kept step by step
- `noise.py`    random numbers keyed by seed and purpose, never by rank or batch position
- `workers.py`  the processes of one trial, and how they share the rows of a batch
- `meter.py`    counts what a trial spends into a ledger; `flops.py` counts the FLOPs of its modules
- `emoji/`      the embedded checkpoint and the recipe that trains it

To add a model, save it in the diffusers layout; no file here needs to change. `models/` imports no other folder of this
repository.
"""
