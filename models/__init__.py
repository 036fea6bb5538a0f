"""The diffusion policy: loading a pipeline, LoRA, the differentiable sampler, keyed noise and the compute meter.

- `loading.py`      loads a folder or hub id in `StableDiffusionPipeline` layout as its parts, with clear errors
- `inspection.py`   looks at a model's folder before anything is loaded; `weight_files.py` at its weights
- `policy.py`       the parts with a LoRA adapter: prompts in, noise predictions and images out; `adapter.py` its layers
- `sampler.py`      DDIM with eta and log-probabilities, per-row timesteps, gradients kept step by step
- `schedulers.py`   the DDIM that takes the place of the scheduler that a checkpoint came with
- `noise.py`        random numbers keyed by seed and purpose, never by rank or batch position
- `workers.py`      the processes of one trial, and how they share the rows of a batch
- `meter.py`        counts what a trial spends into a ledger (`ledger.py`); `flops.py` counts the FLOPs of its modules
- `checkpointing.py`  which denoiser calls the backward pass computes again, by measured memory (`memory.py`)
- `dry.py`          a policy on tensors without numbers, to predict memory; `architectures.py` published configurations
- `tiny.py`         a random tiny model, for tests and `bench test`
- `emoji/`          the embedded checkpoint and the recipe that trains it

To add a model, save it in the diffusers layout; no file here needs to change. `models/` imports no other folder of this
repository.
"""
