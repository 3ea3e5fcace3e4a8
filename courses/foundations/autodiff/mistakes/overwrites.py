# fails: test-backward
# ko: 기울기를 더하지 않고 덮어써서, 여러 곳에 쓰인 값의 기울기가 일부만 남아요.
# en: Overwrites gradients instead of adding, so that a shared value keeps only a part.

# %% id="backward"
def backward(output, seed=1.0):
    nodes = order(output)
    for node in nodes:
        node.grad = 0.0
    output.grad = seed
    for node in reversed(nodes):
        if node.rule is not None:
            for parent, share in zip(node.parents, node.rule(node.grad)):
                parent.grad = share
