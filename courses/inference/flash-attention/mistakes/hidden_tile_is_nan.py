# fails: test-online
# ko: 모두 가려진 타일에서 -inf에서 -inf를 빼서 nan이 돼요.
# en: Subtracts -inf from -inf where a tile is wholly hidden, which gives nan.

# %% id="online-softmax"
def update(state, scores, values):
    largest, total, mixed = state
    new = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
    shrink, weights = torch.exp(largest - new), torch.exp(scores - new)
    total = total * shrink + weights.sum(dim=-1, keepdim=True)
    return new, total, mixed * shrink + weights @ values


def finish(state):
    largest, total, mixed = state
    return mixed / total, largest + total.log()
