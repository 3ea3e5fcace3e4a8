# fails: test-cache
# ko: append가 층마다 길이를 늘려서, 다음 층이 엉뚱한 자리에 써요.
# en: append moves the length on at every layer, so that the next layer writes to another place.

# %% id="cache"
class Cache:
    def __init__(self, model, batch, longest, device="cpu"):
        shape = (model.layers, batch, model.kv_heads, longest, model.size)
        self.keys = torch.zeros(shape, dtype=model.dtype, device=device)
        self.values = torch.zeros(shape, dtype=model.dtype, device=device)
        self.length = 0

    def append(self, layer, k, v):
        end = self.length + k.shape[2]
        if end > self.keys.shape[3]:
            raise ValueError("full")
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        self.length = end
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, t):
        pass
