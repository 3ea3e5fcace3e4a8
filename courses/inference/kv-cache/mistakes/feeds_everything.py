# fails: test-generate
# ko: 단계마다 지금까지의 토큰을 모두 다시 넣어요. 답은 맞지만 캐시를 쓰는 뜻이 없어요.
# en: Puts all tokens in again at each step: right, but the cache is of no use.

# %% id="generate"
def generate(model, prompt, n):
    tokens = prompt
    for _ in range(n):
        cache = Cache(model, prompt.shape[0], prompt.shape[1] + n)
        following = forward_cached(model, tokens, cache)[:, -1].argmax(dim=-1, keepdim=True)
        tokens = torch.cat([tokens, following], dim=1)
    return tokens[:, prompt.shape[1] :]
