# fails: test-times-faster
# ko: 늘 느린 쪽을 먼저 재서, 새 입력을 처음 만지는 손해를 한쪽만 봐요.
# en: Always times the slow one first, which alone pays for touching each new input first.

# %% id="times-faster"
def times_faster(slow, fast, draw, same, rounds=10, clock=time.perf_counter, wait=nothing):
    slow(draw(0)), fast(draw(0))
    ratios = []
    for i in range(1, rounds + 1):
        argument = draw(i)
        old, old_seconds = timed(slow, argument, clock, wait)
        new, new_seconds = timed(fast, argument, clock, wait)
        if not same(old, new):
            raise ValueError("the results differ")
        ratios.append(old_seconds / new_seconds)
    return float(np.median(ratios)), min(ratios), max(ratios)
