# fails: test-speed-int8
# ko: 곱할 때마다 가중치를 float32로 되돌려요. 답은 맞지만 float32보다 훨씬 느려요.
# en: Turns the weights back into float32 at every call: right, and much slower than float32.

# %% id="linear-int8"
def linear_int8(x, codes, scales):
    weight = codes.to(torch.float32) * scales.to(torch.float32)[:, None]
    return (x.to(torch.float32) @ weight.T).to(x.dtype)
