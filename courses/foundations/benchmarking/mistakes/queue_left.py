# fails: test-timed
# ko: 재기 전에 장치를 비우지 않아서, 앞에서 시킨 일의 시간이 섞여요.
# en: Does not empty the device first, so that earlier work is counted too.

# %% id="timed"
def timed(work, argument, clock=time.perf_counter, wait=nothing):
    began = clock()
    result = work(argument)
    wait()
    return result, clock() - began
