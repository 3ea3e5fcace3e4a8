# fails: test-speed
# ko: 답은 맞지만 모든 쌍을 견줘요.
# en: Right, but compares every pair.

# %% id="widest"
def widest(numbers):
    return max((abs(a - b) for a in numbers for b in numbers), default=0)
