# fails: test-causal
# ko: 전부 가려진 타일까지 계산한 다음 마스크로 버려요.
# en: Computes tiles that are wholly hidden and lets the mask throw them away.

# %% id="flash-attention"
def flash_attention(q, k, v, causal=False, block=128):
    n, m, size = q.shape[-2], k.shape[-2], q.shape[-1]
    output = torch.empty_like(q)
    for first in range(0, n, block):
        rows = q[..., first : first + block, :] / size**0.5
        last_seen = torch.arange(first, first + rows.shape[-2])[:, None] + m - n
        state = empty_state(rows)
        for start in range(0, m, block):
            stop = min(start + block, m)
            scores = rows @ k[..., start:stop, :].transpose(-1, -2)
            if causal:
                scores = scores.masked_fill(torch.arange(start, stop) > last_seen, -math.inf)
            state = update(state, scores, v[..., start:stop, :])
        output[..., first : first + block, :] = finish(state)[0]
    return output
