# fails: test-sampled
# ko: 기각된 뒤에 잔여 분포가 아니라 타깃의 분포에서 다시 뽑아서, 초안이 좋아하는 토큰이 너무 자주 나와요.
# en: Draws from the target's distribution after a rejection instead of the residual one, which favours the draft's tokens.

# %% id="verify-sampled"
def verify_sampled(proposed, q, p):
    gained = []
    for place, token in enumerate(proposed):
        if random.random() >= p[place, token] / q[place, token]:
            return gained + [choose(p[place])]
        gained.append(token)
    return gained + [choose(p[-1])]
