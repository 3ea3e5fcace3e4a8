# fails: test-standardize
# ko: 열마다가 아니라 표 전체의 평균과 표준편차를 썼어요.
# en: Uses the mean and deviation of the whole table instead of each column's.

# %% id="standardize"
def standardize(table):
    return (table - table.mean()) / table.std()
