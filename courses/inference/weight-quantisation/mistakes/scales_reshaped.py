# fails: test-linear-int4
# ko: (행, 그룹)인 스케일을 돌려놓지 않고 모양만 (그룹, 행)으로 바꿔서, 스케일이 엉뚱한 행에 가요.
# en: Reshapes the scales of (row, group) to (group, row) instead of turning them, so that they go to other rows.

# %% id="linear-int4"
def pack_int4(weight, group):
    codes, scales = quantise_int4(weight, group)
    layout = int4_layout(pack_pairs(codes))
    scales = scales.reshape(weight.shape[1] // group, weight.shape[0])
    return layout, torch.stack([scales, torch.zeros_like(scales)], dim=2).contiguous()


def linear_int4(x, layout, scales_and_zeros):
    groups, out, _ = scales_and_zeros.shape
    rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
    result = int4_kernel(rows, layout, x.shape[-1] // groups, scales_and_zeros)
    return result.to(x.dtype).reshape(*x.shape[:-1], out)
