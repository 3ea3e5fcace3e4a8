# fails: test-order
# ko: output에서 가까운 값부터 담아서, 나눠 쓰인 값이 너무 일찍 나와요.
# en: Takes values by their distance from the output, so that a shared one comes too early.

# %% id="order"
def order(output):
    found, queue = [], [output]
    for node in queue:
        if node not in found:
            found.append(node)
            queue.extend(node.parents)
    return found[::-1]
