# fails: test-cache
# ko: 키와 값이 같은 텐서를 가리켜서, 나중에 쓴 값이 키를 덮어써요.
# en: Keys and values are one tensor, so that the values overwrite the keys.

# %% id="cache"
class Cache:
    def __init__(self, model, batch, longest, device="cpu"):
        shape = (model.layers, batch, model.kv_heads, longest, model.size)
        self.keys = self.values = torch.zeros(shape, dtype=model.dtype, device=device)
        self.length = 0

    def append(self, layer, k, v):
        end = self.length + k.shape[2]
        if end > self.keys.shape[3]:
            raise ValueError("full")
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, t):
        self.length += t
