# fails: test-forward
# ko: 새 토큰의 위치를 늘 0부터 세요.
# en: Counts the positions of new tokens from 0.

# %% id="forward-cached"
def forward_cached(model, tokens, cache):
    past, t = cache.length, tokens.shape[1]
    mask = torch.arange(past + t)[None, :] <= past + torch.arange(t)[:, None]
    x = model.embed(tokens, 0)
    for layer in range(model.layers):
        q, k, v = model.project(layer, x)
        k, v = cache.append(layer, k, v)
        x = model.finish(layer, x, attend(q, k, v, mask))
    cache.advance(t)
    return model.logits(x)
