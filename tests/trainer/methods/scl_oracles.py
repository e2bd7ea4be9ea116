"""SCL written as plain loops, and as the authors' backward that writes memory: what the vectorised code must equal."""

import torch
from torch.nn.functional import cross_entropy, normalize


def ranked(crop, others, own, settings):
    """Numbers of all crops but `own`, nearest first; `crop` is (whole, stripes, camera), `others` the banks."""
    whole, stripes, camera = crop
    distances = []
    for row, parts, other in zip(*others, strict=True):
        pieces = zip(stripes.chunk(settings.stripes), parts.chunk(settings.stripes), strict=True)
        local = sum(((one - two) ** 2).sum() for one, two in pieces) / settings.stripes
        distance = settings.whole_share * ((whole - row) ** 2).sum() + (1 - settings.whole_share) * local
        distances.append(float(distance + settings.camera_weight * bool(camera == other and camera >= 0)))
    return [number for number in sorted(range(len(distances)), key=distances.__getitem__) if number != own]


def terms_of(rows, mixture, keys, weights, temperature):
    """c_j times the mean cross entropy against key j, for every j."""
    logits = torch.stack([mixture[own] @ row / temperature for row, own in zip(rows, keys, strict=True)])
    return [weight * cross_entropy(logits, torch.full((len(rows),), j)) for j, weight in enumerate(weights)]


def written(mixture, out, columns, momentum=0.5):
    """The mixture after the step, one write at a time."""
    mixture = mixture.clone()
    for rows in (out.stripes.detach(), out.whole.detach()):
        for column in reversed(range(columns)):
            for row, slot in zip(rows, out.keys[:, column].tolist(), strict=True):
                mixture[slot] = normalize(momentum * mixture[slot] + (1 - momentum) * row, dim=0)
    return mixture


class WritingTerm(torch.autograd.Function):
    """Cross entropy against key `column` whose backward first uses the mixture, then writes into it."""

    @staticmethod
    def forward(ctx, rows, mixture, keys, column, temperature):
        logits = (mixture[keys] @ rows[:, :, None])[..., 0] / temperature
        ctx.save_for_backward(rows, logits.softmax(1), keys)
        ctx.rest = mixture, column, temperature
        return cross_entropy(logits, torch.full((len(rows),), column))

    @staticmethod
    def backward(ctx, gradient):
        rows, error, keys = ctx.saved_tensors
        mixture, column, temperature = ctx.rest
        error = error.clone()
        error[:, column] -= 1
        result = gradient * (error[:, None] @ mixture[keys])[:, 0] / (temperature * len(rows))
        for row, slot in zip(rows, keys[:, column].tolist(), strict=True):
            mixture[slot] = normalize((mixture[slot] + row) / 2, dim=0)
        return result, None, None, None, None


def step_that_writes_in_backward(mixture, out, weights, settings):
    """Gradients of the stripes and of the whole, and the mixture after backward, as the authors wrote it."""
    mixture, share = mixture.clone(), settings.stripe_loss
    stripes, whole = (rows.detach().requires_grad_() for rows in (out.stripes, out.whole))
    loss = 0.0
    for rows, part in ((whole, 1 - share), (stripes, share)):
        for column, weight in enumerate(weights):
            term = WritingTerm.apply(rows, mixture, out.keys, column, settings.temperature)
            loss = loss + part * weight * term
    loss.backward()
    return stripes.grad, whole.grad, mixture
