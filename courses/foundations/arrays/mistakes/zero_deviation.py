# fails: test-standardize
# ko: 값이 모두 같은 열에서 0으로 나눠요.
# en: Divides by zero where a column is constant.

# %% id="standardize"
def standardize(table):
    return (table - table.mean(axis=0)) / table.std(axis=0)
