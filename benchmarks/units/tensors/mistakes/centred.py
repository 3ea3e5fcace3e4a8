# fails: test-norm
# ko: LayerNorm처럼 평균을 빼요.
# en: Subtracts the mean, as LayerNorm does.

# %% id="rms-norm"
def rms_norm(x, weight):
    x = x - x.mean(dim=-1, keepdim=True)
    return x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + 1e-6) * weight
