# fails: test-checkpoint
# ko: 안쪽에서 원래의 a로 다시 계산해서, 다른 길로 온 기울기를 지우고 두 번 더해요.
# en: Computes again on the original a, which wipes out gradient that came another way.

# %% id="checkpoint"
def checkpoint(function, a):
    def rule(grad):
        backward(function(a), grad)
        return (a.grad,)

    return Value(function(a).data, (a,), rule)
