# fails: test-propose
# ko: 초안의 캐시를 되감지 않아서, 기각된 토큰을 읽은 채로 다음 초안을 써요.
# en: Never rolls the draft's cache back, so the next draft is written after rejected tokens.

# %% id="propose"
def propose(draft, tokens, gamma, temperature):
    fresh = tokens[min(draft.length, len(tokens) - 1) :]
    proposed, q = [], []
    for _ in range(gamma):
        q.append(distribution(draft.feed(fresh)[-1], temperature))
        fresh = [choose(q[-1])]
        proposed += fresh
    return proposed, torch.stack(q)
