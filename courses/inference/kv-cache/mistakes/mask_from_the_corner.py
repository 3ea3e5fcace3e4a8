# fails: test-forward-several
# ko: 마스크의 대각선이 캐시 길이만큼 밀리지 않아, 새 토큰이 앞의 토큰을 못 봐요.
# en: The mask starts at the corner instead of after the cache, which hides earlier tokens.

# %% id="forward-cached"
def forward_cached(model, tokens, cache):
    past, t = cache.length, tokens.shape[1]
    mask = torch.ones(t, past + t, dtype=torch.bool).tril() if t > 1 else torch.ones(1, past + 1, dtype=torch.bool)
    x = model.embed(tokens, past)
    for layer in range(model.layers):
        q, k, v = model.project(layer, x)
        k, v = cache.append(layer, k, v)
        x = model.finish(layer, x, attend(q, k, v, mask))
    cache.advance(t)
    return model.logits(x)
