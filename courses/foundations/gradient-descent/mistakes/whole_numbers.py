# fails: test-descend
# ko: 출발점과 같은 자료형의 배열에 점을 모아서, 정수에서 출발하면 소수점 아래가 잘려요.
# en: Keeps the points in an array of the start's type, which cuts off decimals when the start is of integers.

# %% id="descend"
def descend(slope, start, rate, steps):
    path = np.zeros((steps + 1, *start.shape), dtype=start.dtype)
    path[0] = start
    for i in range(steps):
        path[i + 1] = path[i] - rate * slope(path[i])
    return path
