# fails: test-speculate
# ko: 타깃이 고른 마지막 토큰까지 읽은 것으로 셈해서, 그 자리에 기각된 토큰의 키와 값이 남아요.
# en: Counts the target's latest choice as read, so that a rejected token's keys and values stay in its place.

# %% id="speculate"
def speculate(target, drafter, prompt, n, gamma, temperature):
    tokens = list(prompt)
    target.feed(tokens[:-1]) if len(tokens) > 1 else None
    while len(tokens) < len(prompt) + n:
        proposed, q = drafter(tokens, gamma)
        logits = target.feed([tokens[-1]] + proposed)
        if temperature == 0:
            gained = verify_greedy(proposed, logits)
        else:
            gained = verify_sampled(proposed, q, distribution(logits, temperature))
        tokens += gained
        target.rollback(min(target.length, len(tokens)))
    return tokens[len(prompt) : len(prompt) + n]
