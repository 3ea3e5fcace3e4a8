# fails: test-sampled
# ko: 타깃에서도 뽑아 보고 같을 때만 수락해요. 분포는 맞지만 수락률이 겹친 넓이보다 훨씬 작아요.
# en: Draws from the target, too, and accepts only what is equal: the distribution is right, but far less is accepted than could be.

# %% id="verify-sampled"
def verify_sampled(proposed, q, p):
    gained = []
    for place, token in enumerate(proposed):
        own = choose(p[place])
        gained.append(own)
        if own != token:
            return gained
    return gained + [choose(p[len(proposed)])]
