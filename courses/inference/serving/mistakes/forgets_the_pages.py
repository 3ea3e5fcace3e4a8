# fails: test-limits
# ko: 한 단계의 시간만 보고, KV 캐시의 페이지가 모자라는 것은 보지 않아요.
# en: Looks at the time of a step only and forgets that pages run out.

# %% id="limits"
def most_rows(server, context):
    one = server["row"] + server["kv"] * context
    return max(0, math.floor((server["tpot"] - server["base"]) / one))


def saturation(server, prompt, answer, rows):
    step = server["base"] / rows + server["row"] + server["kv"] * (prompt + answer / 2)
    return 1 / (server["prefill"] * prompt + (answer - 1) * step)


def in_flight(rate, seconds):
    return rate * seconds


def won_per_million(tokens, seconds, won_per_hour):
    return won_per_hour * seconds / 3600 / tokens * 1e6 if tokens else math.inf
