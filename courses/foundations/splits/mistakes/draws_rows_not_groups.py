# fails: test-groups
# ko: 행을 뽑고 그 행의 그룹을 테스트로 보내서, 큰 그룹이 거의 늘 테스트가 돼요.
# en: Draws rows and takes their groups, so that large groups nearly always end up in the test set.

# %% id="split-groups"
def split_groups(groups, fraction, seed):
    generator = np.random.default_rng(seed)
    count = min(max(round(fraction * len(np.unique(groups))), 1), len(np.unique(groups)) - 1)
    chosen = []
    for row in generator.permutation(len(groups)):
        if groups[row] not in chosen and len(chosen) < count:
            chosen.append(groups[row])
    in_test = np.isin(groups, chosen)
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)
