# fails: test-order
# ko: 재귀로 순서를 정해서 깊은 그래프에서 RecursionError가 나요.
# en: Finds the order by recursion, which ends in RecursionError on a deep graph.

# %% id="order"
def order(output):
    seen, found = set(), []

    def visit(node):
        if id(node) not in seen:
            seen.add(id(node))
            for parent in node.parents:
                visit(parent)
            found.append(node)

    visit(output)
    return found
