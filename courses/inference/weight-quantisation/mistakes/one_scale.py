# fails: test-int8
# ko: 행마다가 아니라 표 전체의 가장 큰 값 하나로 스케일을 정해요.
# en: Takes one scale from the largest value of the whole table instead of each row's.

# %% id="quantise-int8"
def quantise_int8(weight):
    scale = (weight.abs().max().clamp_min(1e-12) / 127).to(torch.bfloat16)
    codes = (weight / scale.to(weight.dtype)).round().clamp(-127, 127).to(torch.int8)
    return codes.contiguous(), scale.repeat(weight.shape[0])
