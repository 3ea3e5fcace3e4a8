# fails: test-timed
# ko: 장치가 끝내기를 기다리지 않고, 시켜 놓는 데 든 시간만 재요.
# en: Does not wait for the device: times only the launch.

# %% id="timed"
def timed(work, argument, clock=time.perf_counter, wait=nothing):
    wait()
    began = clock()
    result = work(argument)
    seconds = clock() - began
    wait()
    return result, seconds
