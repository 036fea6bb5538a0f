"""The diffusion policy: loading a pipeline, LoRA, the differentiable sampler, keyed noise and the compute meter.

- `loading.py`  a folder or hub id in `StableDiffusionPipeline` layout -> its parts, with clear errors
- `policy.py`   the parts with an adapter: prompts in, noise predictions and images out
- `sampler.py`  DDIM with eta and log-probabilities, per-row timesteps, gradients kept step by step
- `noise.py`    random numbers keyed by what they are for, never by rank or batch position
- `workers.py`  the processes of one trial, and how they share the rows of a batch
- `meter.py`    the ledger of what a trial spent; `flops.py` the arithmetic behind one of its columns
- `emoji/`      the embedded checkpoint and the recipe that trains it

To add a model: put it in the diffusers layout; nothing here needs to change. This floor imports nothing of ours.
"""
