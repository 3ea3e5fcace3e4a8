"""A decoder-only transformer in plain torch, in pieces that the course's units join in their own ways."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class KVCache(Protocol):
    """What ``Model.forward`` asks of a cache; the units write some."""

    length: int  # tokens it holds

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the keys and values of new tokens, (batch, kv_heads, t, size) each; return all of this layer so far."""

    def advance(self, t: int) -> None:
        """``t`` tokens have passed all layers."""


class Model:
    """
    Args:
        heads: of the queries; ``kv_heads`` of them share a key and a value, as many as ``heads`` unless it is given.
        longest: how many positions there are.
        seed: of the weights that it starts with.
    """

    def __init__(
        self,
        layers: int = 4,
        heads: int = 4,
        width: int = 128,
        vocabulary: int = 256,
        longest: int = 512,
        kv_heads: int | None = None,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        self.layers, self.heads, self.kv_heads = layers, heads, kv_heads or heads
        self.width, self.size, self.vocabulary, self.longest, self.dtype = width, width // heads, vocabulary, longest, dtype
        if self.size * heads != width or heads % self.kv_heads:
            raise ValueError(f"{heads} heads and {self.kv_heads} KV heads do not divide a width of {width}")
        generator = torch.Generator().manual_seed(seed)

        def weights(rows: int, columns: int, scale: float) -> Tensor:
            return (torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale).to(dtype)

        joined = (heads + 2 * self.kv_heads) * self.size
        self.token_table = weights(vocabulary, width, 1.0)
        self.position_table = weights(longest, width, 0.5)
        self.qkv = [weights(width, joined, width**-0.5) for _ in range(layers)]
        self.out = [weights(width, width, width**-0.5) for _ in range(layers)]
        self.up = [weights(width, 4 * width, width**-0.5) for _ in range(layers)]
        self.down = [weights(4 * width, width, (4 * width) ** -0.5) for _ in range(layers)]
        self.head = weights(width, vocabulary, width**-0.5)
        self.calls = 0  # of ``embed``
        self.tokens = 0  # that they were given

    def embed(self, tokens: Tensor, start: int | Tensor) -> Tensor:
        """(b, t) integers -> (b, t, width). ``start``: position of the first token, or (b,), one for each row."""
        self.calls += 1
        self.tokens += tokens.numel()
        t = tokens.shape[1]
        if isinstance(start, Tensor):
            return self.token_table[tokens] + self.position_table[start[:, None] + torch.arange(t)]
        return self.token_table[tokens] + self.position_table[start : start + t]

    def project(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, t, width) -> query (b, heads, t, size), key and value (b, kv_heads, t, size)."""
        b, t, _ = x.shape
        joined = (normalise(x) @ self.qkv[layer]).view(b, t, -1, self.size).transpose(1, 2)
        q, k, v = torch.split(joined, [self.heads, self.kv_heads, self.kv_heads], dim=1)
        return q, k, v

    def finish(self, layer: int, x: Tensor, mixed: Tensor) -> Tensor:
        """``x`` and attention's result (b, heads, t, size) -> the next layer's ``x``."""
        b, _, t, _ = mixed.shape
        x = x + mixed.transpose(1, 2).reshape(b, t, self.width) @ self.out[layer]
        return x + torch.relu(normalise(x) @ self.up[layer]) @ self.down[layer]

    def logits(self, x: Tensor) -> Tensor:
        """(b, t, width) -> (b, t, vocabulary)."""
        return normalise(x) @ self.head

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits (b, t, vocabulary) of the tokens (b, t), which follow those in the cache."""
        past, t = 0 if cache is None else cache.length, tokens.shape[1]
        mask = torch.arange(past + t)[None, :] <= past + torch.arange(t)[:, None]
        x = self.embed(tokens, past)
        for layer in range(self.layers):
            q, k, v = self.project(layer, x)
            if cache is not None:
                k, v = cache.append(layer, k, v)
            x = self.finish(layer, x, attend(q, k, v, mask))
        if cache is not None:
            cache.advance(t)
        return self.logits(x)

    def weights(self) -> dict[str, Tensor]:
        """Every weight by its name; the tensors themselves, to be read or changed in place."""
        stacks = {"qkv": self.qkv, "out": self.out, "up": self.up, "down": self.down}
        found = {"token_table": self.token_table, "position_table": self.position_table, "head": self.head}
        return found | {f"{name}.{layer}": stack[layer] for name, stack in stacks.items() for layer in range(self.layers)}

    def weight_bytes(self) -> int:
        return sum(weight.numel() * weight.element_size() for weight in self.weights().values())


def normalise(x: Tensor) -> Tensor:
    """RMSNorm without a gain: a gain would be a part of the weights that follow."""
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Scaled dot-product attention; ``mask`` is true where a query may look. Heads of queries share those of keys evenly."""
    if q.shape[1] != k.shape[1]:
        k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], dim=1) for each in (k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ v
