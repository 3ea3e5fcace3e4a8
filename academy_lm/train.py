"""Trains the models: ``python -m academy_lm.train --output FOLDER`` (a fixed number of steps, seeded; one CPU)."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from academy_lm.files import save
from academy_lm.model import Model
from academy_lm.text import VOCABULARY, documents

WINDOW = 128  # tokens of a training example
LONGEST = 512
NOTED = 50  # steps between two losses that are written down


@dataclass(frozen=True)
class Recipe:
    layers: int
    heads: int
    width: int
    steps: int
    batch: int = 16
    matrix_rate: float = 1.5e-2  # Muon's, scaled to match AdamW's
    table_rate: float = 1e-2  # AdamW's
    seed: int = 0


RECIPES = {
    "base": Recipe(layers=4, heads=4, width=128, steps=600),
    "draft": Recipe(layers=1, heads=2, width=64, steps=1000),
}


def train(output: Path, recipes: dict[str, Recipe] = RECIPES, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Train every model, write its weights and ``losses.json``; returns what that file holds (nats a byte)."""
    output.mkdir(parents=True, exist_ok=True)
    losses = {}
    with _one_thread():
        for name, recipe in recipes.items():
            model, losses[name] = _one(recipe, partial(_said, report, name))
            save(model, output / f"{name}.npz")
    (output / "losses.json").write_text(json.dumps(losses, indent=1) + "\n")
    return losses


def _said(report: Callable[[str], None], name: str, text: str) -> None:
    report(f"{name}: {text}")


def _one(recipe: Recipe, report: Callable[[str], None]) -> tuple[Model, dict[str, Any]]:
    began = time.monotonic()
    learnt, held_out = (torch.tensor(tokens) for tokens in documents())
    generator = torch.Generator().manual_seed(recipe.seed)
    model = Model(recipe.layers, recipe.heads, recipe.width, VOCABULARY, LONGEST, seed=recipe.seed)
    _start(model)
    matrices = [*model.qkv, *model.out, *model.up, *model.down]
    tables = [model.token_table, model.position_table, model.head]
    weights = [*matrices, *tables]
    for weight in weights:
        weight.requires_grad_()
    optimisers: list[tuple[torch.optim.Optimizer, float]] = [
        (torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"), recipe.matrix_rate),
        (torch.optim.AdamW(tables, betas=(0.9, 0.95), weight_decay=0.0), recipe.table_rate),
    ]
    noted: list[tuple[int, float]] = []
    recent: list[float] = []
    for step in range(recipe.steps):
        loss = _loss(model, *_examples(learnt, recipe.batch, generator))
        for weight in weights:
            weight.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser, rate in optimisers:
            optimiser.param_groups[0]["lr"] = rate * _schedule(step / recipe.steps)
            optimiser.step()
        recent.append(loss.item())
        if (step + 1) % NOTED == 0 or step + 1 == recipe.steps:
            noted.append((step + 1, round(sum(recent) / len(recent), 4)))
            recent = []
            report(f"step {step + 1} of {recipe.steps}, loss {noted[-1][1]:.3f}")
    for weight in weights:
        weight.requires_grad_(False)
    validation = evaluate(model, held_out)
    seconds = time.monotonic() - began
    report(f"validation loss {validation:.3f} nats a byte, {seconds:.0f} s")
    parameters = sum(weight.numel() for weight in weights)
    record = {"parameters": parameters, "steps": recipe.steps, "training": noted}
    return model, {**record, "validation": round(validation, 4), "seconds": round(seconds, 1)}


def evaluate(model: Model, tokens: Tensor, window: int = WINDOW) -> float:
    """The mean loss over windows that lie side by side."""
    with torch.no_grad():
        rows = tokens[: len(tokens) // (window + 1) * (window + 1)].view(-1, window + 1)
        losses = [_loss(model, part, 0) * len(part) for part in torch.split(rows, 16)]
        return float(sum(losses)) / len(rows)


def _examples(tokens: Tensor, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random windows, each with a random first position, so that every position is learnt."""
    at = torch.randint(0, len(tokens) - WINDOW, (batch, 1), generator=generator)
    start = torch.randint(0, LONGEST - WINDOW + 1, (batch,), generator=generator)
    return tokens[at + torch.arange(WINDOW + 1)], start


def _loss(model: Model, tokens: Tensor, start: int | Tensor) -> Tensor:
    """Cross entropy of each token given those before it. Attention is torch's own, which is faster than the readable one."""
    x = model.embed(tokens[:, :-1], start)
    for layer in range(model.layers):
        q, k, v = model.project(layer, x)
        x = model.finish(layer, x, torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))
    return torch.nn.functional.cross_entropy(model.logits(x).flatten(0, 1), tokens[:, 1:].flatten())


def _start(model: Model) -> None:
    """Positions as sines and cosines, so that "three tokens back" is the same everywhere; small changes by each layer."""
    speeds = 10_000.0 ** -torch.linspace(0, 1, model.width // 2 + 1)[:-1]
    angles = torch.arange(model.longest)[:, None] * speeds
    model.position_table.copy_(torch.cat([angles.sin(), angles.cos()], dim=1))
    for weight in [*model.out, *model.down]:
        weight.mul_((2 * model.layers) ** -0.5)
    model.head.mul_(0.3)


def _schedule(done: float) -> float:
    """Warm up over the first twentieth, then half a cosine down."""
    return min(1.0, 20 * done + 0.02) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


@contextmanager
def _one_thread() -> Iterator[None]:
    """The loss depends on the order of additions, so on the number of threads; on a busy CPU two wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the models and write their weights and losses.json.")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    print(json.dumps(train(parser.parse_args().output, report=lambda text: print(text, file=sys.stderr, flush=True))))


if __name__ == "__main__":
    main()
