# fails: test-memory
# ko: 질의만 나누고 키는 통째로 봐요. 답은 맞지만 점수 타일이 block × m으로 길어져요.
# en: Splits the queries and not the keys: right, but a tile of scores is as long as all keys.

# %% id="flash-attention"
def flash_attention(q, k, v, causal=False, block=128):
    n, m, size = q.shape[-2], k.shape[-2], q.shape[-1]
    parts = []
    for first in range(0, n, block):
        rows = q[..., first : first + block, :] / size**0.5
        end = min(m, first + block + m - n) if causal else m
        scores = rows @ k[..., :end, :].transpose(-1, -2)
        if causal:
            last_seen = torch.arange(first, first + rows.shape[-2])[:, None] + m - n
            scores = scores.masked_fill(torch.arange(end) > last_seen, -math.inf)
        parts.append(scores.softmax(dim=-1) @ v[..., :end, :])
    return torch.cat(parts, dim=-2)
