# fails: test-quality
# ko: 양자화했다가 되돌린 실수를 모델에 다시 넣어요. 손실은 같지만 바이트는 하나도 줄지 않아요.
# en: Puts the restored floats back into the model: the loss is the same, but not a byte is saved.

# %% id="quantised-lm"
def quantised_lm(bits, group):
    lm = academy_lm.load()
    for matrix in matrices(lm):
        if bits == 8:
            codes, scales = quantise_int8(matrix.T)
            restored = codes.float() * scales.float()[:, None]
        else:
            codes, scales = quantise_int4(matrix.T, group)
            restored = (codes.float() - 8) * scales.float().repeat_interleave(group, dim=1)
        matrix.copy_(restored.T)
    return lm
