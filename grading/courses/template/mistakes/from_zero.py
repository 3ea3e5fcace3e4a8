# fails: test-widest
# ko: 가장 큰 수를 0에서부터 찾아서, 음수만 있으면 틀려요.
# en: Looks for the largest number from 0 on, which fails for negative numbers.

# %% id="widest"
def widest(numbers):
    largest, smallest = 0, 0
    for number in numbers:
        largest, smallest = max(largest, number), min(smallest, number)
    return largest - smallest
