# fails: test-backward
# ko: 앞에서 구한 기울기를 지우지 않아서, 두 번 부르면 더 커져요.
# en: Does not clear earlier gradients, so that a second call makes them larger.

# %% id="backward"
def backward(output, seed=1.0):
    output.grad = seed
    for node in reversed(order(output)):
        if node.rule is not None:
            for parent, share in zip(node.parents, node.rule(node.grad)):
                parent.grad += share
