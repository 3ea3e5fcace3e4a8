# fails: test-attend
# ko: 뒤에 오는 토큰을 가리지 않아요.
# en: Does not hide the tokens that come later.

# %% id="attend"
def attend(q, k, v):
    return torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, dim=-1) @ v
