"""The diffusion policy: loading a pipeline, LoRA, differentiable sampling, keyed noise and the compute meter.

- `loading.py`      loads a folder or hub id in `StableDiffusionPipeline` layout as its parts, with clear errors
- `inspection.py`   looks at a model's folder before anything is loaded; `weight_files.py` at its weights
- `policy.py`       a model with a LoRA adapter: prompts in, predictions, samples and images out, gradients kept by step
- `adapter.py`      the adapter's weights, and which weights a prediction uses: the adapter's, others, or the base's
- `families/`       what differs between model families: conditioning, one call of the denoiser, decoding
- `paths/`          what a prediction means under a noise process, and the sampler's transitions with log-probabilities
- `choices.py`      the values that a sweep may name and a policy knows
- `sampler.py`      the sampler's settings, and the functions that a caller of one passes to it
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
