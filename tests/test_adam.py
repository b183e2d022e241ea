"""The optimizer, against torch's and against formulas."""

import copy

import pytest
import torch
from torch import nn

from skvae._adam import Adam
from skvae._random import global_seed


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_adam_against_torch(memory):
    with global_seed(0):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)).double()
        inputs = torch.randn(5, 3, 4, 4).double().contiguous(memory_format=memory)
    network = network.to(memory_format=memory)
    twin = copy.deepcopy(network)
    groups = [
        [p for p in net.parameters() if (p.ndim > 1) == matrix]
        for net in (network, twin)
        for matrix in (1, 0)
    ]
    ours = Adam([(groups[0], 0.3, 1.0), (groups[1], 0.0, 0.5)])
    theirs = torch.optim.Adam(
        [{"params": groups[2], "weight_decay": 0.3}, {"params": groups[3]}], betas=Adam.betas, eps=Adam.eps
    )
    for step in range(6):
        loss = network(inputs).square().sum()
        gradients = torch.autograd.grad(loss, ours.parameters)
        if step % 2:  # other strides than those of the weights
            gradients = [
                g.transpose(0, 1).contiguous().transpose(0, 1) if g.ndim > 1 else g for g in gradients
            ]
        ours.step(gradients, rate := 0.1 / (step + 1))
        theirs.zero_grad()
        twin(inputs).square().sum().backward()
        for group, factor in zip(theirs.param_groups, (1.0, 0.5), strict=True):
            group["lr"] = factor * rate
        theirs.step()
    for a, b in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        assert a.stride() == b.stride()


def test_the_average_against_its_formula():
    weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    adam, want = Adam([([weight], 0.0, 1.0)], averaging=True), torch.zeros(2, dtype=torch.float64)
    for n in range(1, 40):
        adam.step([torch.tensor([1.0, -2.0]).double() * n], 0.1)
        want += 10 / (10 + n) * (weight.detach() - want)  # weight 1 / n of the last n steps, n a tenth of all
    last = weight.detach().clone()
    adam.swap_average()
    torch.testing.assert_close(weight.detach(), want)
    adam.swap_average()
    assert torch.equal(weight, last)


def test_clipping_against_its_formula():
    weights = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
    clipped, plain = (Adam([(list(map(nn.Parameter, map(torch.clone, weights))), 0.0, 1.0)]) for _ in "ab")
    generator, usual, cuts = torch.Generator().manual_seed(0), None, 0
    for n in range(60):
        size = {0: 0.0, 20: 1000.0, 21: 1000.0}.get(n, 1.0)
        gradients = [size * torch.randn(w.shape, generator=generator) for w in weights]
        norm = torch.cat([g.flatten() for g in gradients]).norm().item()
        usual = usual or norm
        factor = min(1.0, 3 * usual / norm) if norm else 1.0
        cuts += factor < 1
        usual += 0.02 * (min(norm, 3 * usual) - usual)
        clipped.step([g.clone() for g in gradients], 0.1, clip=True)
        plain.step([factor * g for g in gradients], 0.1)
        assert clipped.usual_norm.item() == pytest.approx(usual, rel=1e-5)
    assert cuts == 2
    for a, b in zip(clipped.parameters, plain.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    other = Adam([(list(map(nn.Parameter, map(torch.clone, weights))), 0.0, 1.0)])
    other.load_state(clipped.state())
    assert other.usual_norm == clipped.usual_norm
    other.reset()
    assert other.usual_norm == 0
