# fails: test-bench
# ko: 입력을 하나만 뽑아 되풀이해요. 답을 외워 두는 함수가 가장 빠르다고 나와요.
# en: Draws one input and repeats it: a function that remembers its answer looks fastest.

# %% id="bench"
def bench(work, draw, repeats, warmup=2, clock=time.perf_counter, wait=nothing):
    argument = draw(0)
    times = [timed(work, argument, clock, wait)[1] for _ in range(warmup + repeats)]
    return times[warmup:]
