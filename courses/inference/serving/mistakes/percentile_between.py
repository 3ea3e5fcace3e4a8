# fails: test-metrics
# ko: 두 값 사이를 보간해서 백분위수를 만들어 내요.
# en: Interpolates the percentile between two values.

# %% id="metrics"
def percentile(values, p):
    return float(np.percentile(values, p))


def ttft(record):
    return record["times"][0] - record["arrived"]


def tpot(record):
    times = record["times"]
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0


def good(record, tpot_target):
    if record["rejected"]:
        return False
    return record["times"][0] <= record["deadline"] and tpot(record) <= tpot_target


def goodput(records, tpot_target, seconds):
    return sum(good(record, tpot_target) for record in records) / seconds
