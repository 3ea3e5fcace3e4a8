# fails: test-greedy
# ko: 처음 어긋난 자리에서 멈추지 않고, 우연히 같은 뒤쪽 제안까지 수락해요.
# en: Counts every agreeing proposal, also those behind the first disagreement.

# %% id="verify-greedy"
def verify_greedy(proposed, logits):
    own = logits.argmax(dim=-1).tolist()
    accepted = sum(token == chosen for token, chosen in zip(proposed, own))
    return own[: accepted + 1]
