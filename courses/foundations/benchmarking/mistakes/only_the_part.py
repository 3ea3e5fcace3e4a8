# fails: test-amdahl
# ko: 빨라진 정도를 비율로 평균 내요. 시간이 아니라 속도를 더한 거예요.
# en: Averages the gains by share: adds speeds where times must be added.

# %% id="amdahl"
def amdahl(part, factor):
    return (1 - part) + part * factor


def factor_needed(part, wanted):
    return (wanted - (1 - part)) / part
