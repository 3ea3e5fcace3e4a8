# fails: test-descend
# ko: 같은 배열을 제자리에서 바꾸면서 여러 번 담아, 모은 점이 모두 마지막 점이 돼요.
# en: Changes one array in place and keeps it again and again, so that all points are the last one.

# %% id="descend"
def descend(slope, start, rate, steps):
    point = np.array(start, dtype=float)
    path = [point]
    for _ in range(steps):
        point -= rate * slope(point)
        path.append(point)
    return np.array(path)
