# fails: test-causal
# ko: 타일의 마스크를 전체에서의 자리가 아니라 타일 안의 번호로 만들어요.
# en: Makes a tile's mask from places within the tile, not in the whole.

# %% id="flash-attention"
def flash_attention(q, k, v, causal=False, block=128):
    n, m, size = q.shape[-2], k.shape[-2], q.shape[-1]
    output = torch.empty_like(q)
    for first in range(0, n, block):
        rows = q[..., first : first + block, :] / size**0.5
        state = empty_state(rows)
        for start in range(0, m, block):
            keys, values = k[..., start : start + block, :], v[..., start : start + block, :]
            scores = rows @ keys.transpose(-1, -2)
            if causal:
                hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
                scores = scores.masked_fill(hidden, -math.inf)
            state = update(state, scores, values)
        output[..., first : first + block, :] = finish(state)[0]
    return output
