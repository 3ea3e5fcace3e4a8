# fails: test-widest
# ko: 수가 하나도 없으면 오류가 나요.
# en: Fails when there is no number.

# %% id="widest"
def widest(numbers):
    return max(numbers) - min(numbers)
