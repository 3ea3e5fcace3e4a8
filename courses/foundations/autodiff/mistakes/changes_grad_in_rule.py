# fails: test-value
# ko: rule이 기울기를 돌려주지 않고 부모의 grad를 직접 고쳐요.
# en: The rule changes the parents' grad itself instead of returning what to pass on.

# %% id="value"
class Value:
    def __init__(self, data, parents=(), rule=None):
        self.data, self.grad, self.parents, self.rule = float(data), 0.0, parents, rule

    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)

        def rule(grad):
            self.grad += grad
            other.grad += grad

        return Value(self.data + other.data, (self, other), rule)

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)

        def rule(grad):
            self.grad += grad * other.data
            other.grad += grad * self.data

        return Value(self.data * other.data, (self, other), rule)

    def __radd__(self, other):
        return self + other

    def __rmul__(self, other):
        return self * other
