# fails: test-fit
# ko: 상대 오차가 아니라 절대 오차의 제곱합을 줄여요.
# en: Minimises squared absolute errors instead of relative ones.

# %% id="fit"
def fit_cost(work, seconds):
    design = np.column_stack([np.ones(len(work)), work])
    found = np.linalg.lstsq(design, seconds, rcond=None)[0]
    return dict(zip(("base", "prefill", "row", "kv"), found.tolist()))


def fit_errors(cost, work, seconds):
    return np.abs(step_seconds(cost, *np.asarray(work).T) - seconds) / seconds
