# fails: test-pairs
# ko: 짝수 번째 열을 아래쪽 4비트에 넣어요. 스스로 되돌리면 맞지만 커널은 순서를 반대로 읽어요.
# en: Puts the even columns into the lower 4 bits: its own round trip works, but the kernel reads the pairs the other way.

# %% id="pairs"
def pack_pairs(codes):
    return codes[:, 1::2] << 4 | codes[:, 0::2]


def unpack_pairs(pairs):
    return torch.stack([pairs & 15, pairs >> 4], dim=2).flatten(1)
