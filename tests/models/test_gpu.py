"""The CUDA twins of what the CPU tests prove. Run with `make test-gpu`."""

import pytest
import torch

from bench.build.objects import set_arithmetic
from models.adapter import AdapterSettings
from models.checkpointing import memory_bytes
from models.families.stable_diffusion import StableDiffusion
from models.meter import Meter
from models.noise import SeedStream
from models.policy import Policy
from models.sampler import SamplerSettings
from rewards.containment import restored

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

PROMPTS = ["a cat", "a dog"]


@pytest.fixture(autouse=True)
def fp32():
    """The arithmetic of a trial in fp32: by default cuDNN would use TF32."""
    with restored():
        set_arithmetic("fp32")
        yield


def load(model, device) -> Policy:
    return Policy(
        StableDiffusion.load(str(model), device), SamplerSettings(3, 2.0, 1.0), Meter(device), AdapterSettings(rank=2)
    )


def run(model, device):
    policy = load(model, device)
    with torch.no_grad():
        for index, parameter in enumerate(policy.trainable_parameters()):
            generator = torch.Generator().manual_seed(index)
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(device)

    def noise(timestep):
        return SeedStream(0).noise("test", 0, timestep, range(2), policy.state_shape)

    images = policy.decode(policy.sample(policy.start(noise(-1)), policy.encode(PROMPTS), noise, keep=[True] * 3))
    images.square().sum().backward()
    gradient = torch.cat([parameter.grad.flatten().cpu() for parameter in policy.trainable_parameters()])
    return images.detach().cpu(), gradient, policy.meter


def test_images_gradients_and_counts_agree_with_the_cpu(tiny_model):
    images, gradient, meter = run(tiny_model, "cpu")
    on_gpu, gpu_gradient, gpu_meter = run(tiny_model, "cuda")
    torch.testing.assert_close(on_gpu, images, rtol=1e-3, atol=1e-3)
    assert (gpu_gradient - gradient).norm() / gradient.norm() < 1e-2
    for axis in ("nfe_forward", "nfe_backward", "decodes", "images"):
        assert getattr(gpu_meter.ledger, axis) == getattr(meter.ledger, axis)
    assert gpu_meter.read_peak_memory() > 0


def test_what_a_kept_call_stores_is_measured_as_on_the_cpu(tiny_model):
    def measured(device):
        policy = load(tiny_model, device)
        return [policy.stored_bytes(policy.encode(PROMPTS[:1]), level) for level in ("none", "block", "step")]

    for on_gpu, on_cpu in zip(measured("cuda"), measured("cpu"), strict=True):
        assert on_gpu == pytest.approx(on_cpu, rel=0.5)  # kernels differ in what they store
    assert memory_bytes(torch.device("cuda")) > 1 << 30


def test_a_snapshot_is_on_the_gpu_and_is_used_there(tiny_model):
    policy = load(tiny_model, "cuda")
    snapshot = policy.snapshot()
    assert {value.device.type for value in snapshot.values()} == {"cuda"}
    assert {value.device.type for value in policy.state_dict().values()} == {"cpu"}
    with policy.using({name: 2 * value for name, value in snapshot.items()}):
        assert all(torch.equal(value, 2 * snapshot[name]) for name, value in policy.snapshot().items())
    assert all(torch.equal(value, snapshot[name]) for name, value in policy.snapshot().items())


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_sampling_never_waits_for_the_gpu(tiny_model, eta):
    """torch raises at every wait that it knows of; tests/bench/run/test_devices.py asks the same without a GPU."""
    policy, sampler = load(tiny_model, "cuda"), SamplerSettings(3, 2.0, eta)

    def noise(timestep):
        return SeedStream(0).noise("test", 0, timestep, range(2), policy.state_shape)

    def draw(start):
        return policy.sample(start, conditioning, noise, sampler)

    conditioning, start = policy.encode([*PROMPTS, ""])[:2], policy.start(noise(-1))
    draw(start)  # the meter counts FLOPs, and tables go to the GPU
    torch.cuda.set_sync_debug_mode("error")
    try:
        draw(start)
    finally:
        torch.cuda.set_sync_debug_mode("default")
