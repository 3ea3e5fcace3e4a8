# fails: test-online
# ko: 최댓값이 바뀔 때 분모의 기준만 옮기고, 값을 섞은 분자는 그대로 둬요.
# en: When the maximum changes, moves only the denominator to the new base and leaves the numerator.

# %% id="online-softmax"
def update(state, scores, values):
    largest, total, mixed = state
    new = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
    base = torch.where(new == -math.inf, 0.0, new)
    weights = torch.exp(scores - base)
    total = total * torch.exp(largest - base) + weights.sum(dim=-1, keepdim=True)
    return new, total, mixed + weights @ values


def finish(state):
    largest, total, mixed = state
    return torch.where(total > 0, mixed / total, 0.0), largest + total.log()
