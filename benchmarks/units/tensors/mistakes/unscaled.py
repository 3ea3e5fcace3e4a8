# fails: test-attend
# ko: 점수를 나누지 않아요.
# en: Does not divide the scores.

# %% id="attend"
def attend(q, k, v):
    scores = q @ k.transpose(-2, -1)
    past = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    return torch.softmax(scores.masked_fill(~past, float("-inf")), dim=-1) @ v
