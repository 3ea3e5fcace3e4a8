# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="c0a8ec02587a"
# # 9.2 그대로 낸 코드
#
# 주어진 함수를 그대로 내면 성능 기준을 넘지 못해야 해요. 통과한 기준의 수가 곧 점수예요. 올바른 채점기라면 0점이 나와요.

# %% [markdown] id="title" lang="en"
# # 9.2 Code handed in unchanged
#
# Who hands in the given function as it is must not pass a performance gate. The score is the number of gates that pass; a right
# grader gives 0.

# %% id="setup" kind="locked"
import numpy as np

from grading.checks import gate, speedup, submission


def baseline(points, centres):
    return np.array([((points - centre) ** 2).sum(axis=1) for centre in centres])


def draw(round_number):
    generator = np.random.default_rng()
    return generator.normal(size=(400, 16)), generator.normal(size=(60, 16))


def passes(fast, slow, count=5):
    passed = 0
    for number in range(count):
        reached = speedup(fast, slow, draw, np.allclose)
        try:
            gate(f"trial-{number}", reached, 1.5)
            passed += 1
        except AssertionError:
            pass
    return float(passed)

# %% id="distance" kind="solution"
def distance(points, centres):
    ### BEGIN SOLUTION
    return np.array([((points - centre) ** 2).sum(axis=1) for centre in centres])
    ### END SOLUTION

# %% id="test-given-1" kind="test" points=5
passes(submission.distance, baseline)

# %% id="test-own-1" kind="test" points=5
passes(submission.distance, submission.distance)

# %% id="test-given-2" kind="test" points=5
passes(submission.distance, baseline)

# %% id="test-own-2" kind="test" points=5
passes(submission.distance, submission.distance)

# %% id="test-given-3" kind="test" points=5
passes(submission.distance, baseline)

# %% id="test-own-3" kind="test" points=5
passes(submission.distance, submission.distance)

# %% id="test-given-4" kind="test" points=5
passes(submission.distance, baseline)

# %% id="test-own-4" kind="test" points=5
passes(submission.distance, submission.distance)

# %% id="test-given-5" kind="test" points=5
passes(submission.distance, baseline)

# %% id="test-own-5" kind="test" points=5
passes(submission.distance, submission.distance)
