# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown] id="title" lang="ko" reviewed="c3be5d013d27"
# # 4.5 페이지드 KV와 접두사 재사용
#
# **이 단원을 마치면** KV 캐시를 작은 페이지로 잘라 필요한 만큼 나눠 주고, 여럿이 같은 페이지를 함께 쓰게 하고, 아무도 안 쓰는 페이지를 빠짐없이
# 되찾는 메모리 관리자를 직접 만들 수 있어요. 이미 읽은 프롬프트를 다시 계산하지 않게 해서 첫 토큰이 나오기까지 걸리는 시간을 줄이고,
# 어디까지 줄일 수 있는지 재고, 백만 토큰에 드는 돈으로 말할 수 있어요.
#
# **왜 중요할까요?** 4.4에서 배치를 키울수록 토큰이 싸진다는 것을 보았어요. 배치를 키우지 못하게 막는 것은 대개 KV 캐시가 차지하는
# 메모리예요. 대화가 얼마나 길어질지 모르니 가장 긴 길이만큼 잡아 두는데, 그 절반 이상이 빈 채로 버려져요. 게다가 챗봇의 요청은 대부분
# 똑같은 안내문("당신은 친절한 상담원입니다…")으로 시작하는데, 서버는 그것을 요청마다 처음부터 다시 계산해요. 이 두 가지 낭비를 없애면 같은
# GPU로 손님을 두 배 넘게 받고, 첫 글자를 몇 배 빨리 보여 줄 수 있어요.
#
# **걸리는 시간** 7시간 · **먼저 알아야 할 것** KV 캐시(4.1), 연속 배칭(4.4)

# %% [markdown] id="title" lang="en"
# # 4.5 Paged KV and prefix reuse
#
# **After this unit** you can write a memory manager that hands out a KV cache in small pages, lets several sequences share a page,
# and gets back every page that nobody uses. You keep a server from computing again a prompt that it has read before, measure how
# much sooner the first token comes and how far that can go, and say it as money: the price of a million tokens.
#
# **Why it matters.** Unit 4.4 showed that tokens become cheaper as the batch grows. What stops the batch from growing is mostly the memory of the
# KV cache. Nobody knows how long a conversation will become, so room is reserved for the longest, and more than half of it stays empty.
# Moreover, nearly all requests to a chatbot begin with the same instructions ("You are a friendly assistant…"), and the server
# computes them again for each. Without these two wastes the same GPU serves more than twice as many customers, and shows the
# first letter several times sooner.
#
# **Time** 7 hours · **Before you start** the KV cache (4.1), continuous batching (4.4)

# %% id="setup" kind="locked"
import copy
import hashlib
import random
import time
from collections import OrderedDict

import matplotlib.pyplot as plt
import torch

import academy_lm
from academy_lm.model import attend
from grading.checks import gate, gpu, hint, speedup, submission, when_solved

torch.set_num_threads(1)

# %% [markdown] id="waste" lang="ko" reviewed="e1a710a96a1f"
# ## 빈 채로 버려지는 자리
#
# 4.4의 엔진은 자리마다 토큰 512개가 들어갈 캐시를 잡아 두었어요. 실제 대화의 길이는 제각각이에요. 아래에서 대화 200건의 길이를 뽑아,
# 토큰 하나의 키와 값이 몇 바이트인지, 모두 합하면 잡아 둔 메모리가 얼마인지 봐요.

# %% [markdown] id="waste" lang="en"
# ## Room that stays empty
#
# The engine of 4.4 reserved a cache of 512 tokens for every slot. Real conversations differ in length. Below we draw the lengths of 200
# conversations, and see how many bytes the keys and values of one token take, and how much memory is reserved for all.

# %% id="model-code" kind="locked"
model = academy_lm.load()
exact = academy_lm.load(dtype=torch.float64)


def conversation_lengths(seed, n, longest=512):
    generator = random.Random(seed)
    drawn = [round(190 * generator.lognormvariate(0, 0.5)) for _ in range(n)]
    return [min(longest, max(1, length)) for length in drawn]


lengths = conversation_lengths(0, 200)
token_bytes = 2 * model.layers * model.kv_heads * model.size * 4
print(lengths[:12])
reserved, used = 200 * 512 * token_bytes, sum(lengths) * token_bytes
print(token_bytes, f"{reserved / 1e6:.0f} MB, {used / 1e6:.0f} MB")

# %% [markdown] id="example" lang="ko" reviewed="fad4a040875f"
# ## 따라 해 보기: 페이지와 블록 테이블
#
# 운영체제는 이 문제를 오래전에 풀었어요. 메모리를 같은 크기의 **페이지**로 자르고, 프로그램마다 "내 첫째 페이지는 4번, 둘째는 1번"이라고
# 적은 표를 줘요. 프로그램은 메모리가 이어져 있다고 생각하지만 실제로는 흩어져 있어요. KV 캐시도 똑같이 할 수 있어요. 그 표를 **블록
# 테이블**이라고 불러요.
#
# 토큰 `p`는 테이블의 `p // page`번째 페이지에서 `p % page`번째 칸에 있어요. 아래에서 글자 10개를 칸 4개짜리 페이지 4, 1, 3번에 흩어 쓰고,
# 테이블을 따라 다시 읽어 볼게요.

# %% [markdown] id="example" lang="en"
# ## A worked example: pages and a block table
#
# Operating systems solved this long ago. Memory is cut into **pages** of one size, and every program gets a table: "my first page is
# number 4, my second is number 1". To the program its memory looks like one piece; in fact it is scattered. A KV cache can do the
# same, and the table is called a **block table**.
#
# Token `p` is in the page that the table names at `p // page`, at place `p % page`. Below we scatter 10 letters over pages 4, 1 and 3
# of 4 places each, and read them back by the table.

# %% id="example-code" kind="locked"
memory = [["."] * 4 for _ in range(6)]
table, text = [4, 1, 3], "PAGED-KV-!"
for p, letter in enumerate(text):
    memory[table[p // 4]][p % 4] = letter
for number, page in enumerate(memory):
    print(number, "".join(page))
print("".join(memory[table[p // 4]][p % 4] for p in range(len(text))))

# %% [markdown] id="predict" lang="ko" reviewed="29a12107f52e"
# ## 먼저 예상해 보세요
#
# 위의 대화 200건에서, 잡아 둔 칸 가운데 빈 채로 버려지는 칸은 **몇 퍼센트**일까요?
#
# 1. 대화마다 512칸을 잡아 두면?
# 2. 칸 16개짜리 페이지를 필요할 때마다 하나씩 주면?
#
# 실행하기 전에 두 숫자를 적어 두세요. 점수에는 들어가지 않아요.

# %% [markdown] id="predict" lang="en"
# ## Predict first
#
# Of the places reserved for the 200 conversations above, **how many percent stay empty**
#
# 1. when each conversation gets 512 places?
# 2. when each gets pages of 16 places, one at a time, as it needs them?
#
# Write both numbers down before you run on. They are not graded.

# %% id="guess"
longest_guess = 50
paged_guess = 50

# %% [markdown] id="task-count" lang="ko" reviewed="083560f74c42"
# ## 과제 1. 얼마나 버려질까 (쉬움)
#
# 두 함수를 완성하세요.
#
# - `pages_needed(tokens, page)`: 토큰 `tokens`개를 담는 데 필요한, 칸 `page`개짜리 페이지의 수. **정수**로 돌려주고, 토큰이
#   없으면 0이에요.
# - `wasted(lengths, page)`: 길이가 `lengths`인 대화마다 페이지를 따로 줄 때, 준 칸 가운데 빈 칸의 비율(0과 1 사이). 준 칸이 하나도 없으면
#   0이에요. 512칸을 통째로 잡아 두는 것은 `page`가 512인 것과 같아요.

# %% [markdown] id="task-count" lang="en"
# ## Task 1. How much is wasted (easy)
#
# Complete two functions.
#
# - `pages_needed(tokens, page)`: how many pages of `page` places hold `tokens` tokens, an **integer**; 0 without tokens.
# - `wasted(lengths, page)`: conversations of these lengths get pages of their own; the share of the places they got that stays
#   empty, between 0 and 1; 0 when they got none. To reserve 512 places for each is the same as a `page` of 512.

# %% id="count" kind="solution"
def pages_needed(tokens, page):
    ### BEGIN SOLUTION
    return -(-tokens // page)
    ### END SOLUTION


def wasted(lengths, page):
    ### BEGIN SOLUTION
    places = page * sum(pages_needed(length, page) for length in lengths)
    return 1 - sum(lengths) / places if places else 0
    ### END SOLUTION

# %% id="test-count" kind="test" points=2
assert submission.pages_needed(10, 4) == 3, hint("count-pages")
assert submission.pages_needed(8, 4) == 2, hint("count-full")
assert abs(submission.wasted([10], 4) - 2 / 12) < 1e-9, hint("count-share")
assert abs(submission.wasted([3, 5], 4) - 4 / 12) < 1e-9, hint("count-each")
### BEGIN HIDDEN TESTS
assert submission.pages_needed(0, 16) == 0, hint("count-empty")
assert submission.wasted([], 16) == 0 and submission.wasted([0, 0], 16) == 0, hint("count-empty")
assert hasattr(submission.pages_needed(1000, 16), "__index__"), hint("count-integer")
for _ in range(30):
    page = random.choice([random.randint(1, 40), 4096])
    assert submission.pages_needed(3 * page + 1, page) == 4, hint("count-pages")
    drawn = [random.randint(1, 9 * page) for _ in range(9)]
    places = sum(len(range(0, length, page)) * page for length in drawn)
    found = submission.wasted(drawn, page)
    assert abs(found - (places - sum(drawn)) / places) < 1e-9, hint("count-each")
### END HIDDEN TESTS

# %% [markdown] id="sweep" lang="ko" reviewed="86a31dd1bc92"
# 페이지의 크기를 바꿔 가며 버려지는 비율을 그려 볼게요. 메모리가 32,768칸(512칸짜리 자리 64개)일 때 대화가 몇 건이나 들어가는지도
# 세어 봐요.

# %% [markdown] id="sweep" lang="en"
# Let us draw what is wasted for pages of several sizes, and count how many conversations fit into a memory of 32,768 places (64 slots
# of 512).

# %% id="sweep-code" kind="demo"
def fitting(lengths, page, places):
    left, n = places // page, 0
    while pages_needed(lengths[n], page) <= left:
        left -= pages_needed(lengths[n], page)
        n += 1
    return n


with when_solved():
    found = {page: 100 * wasted(lengths, page) for page in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)}
    print(hint("waste-longest", percent=f"{found[512]:.1f}", guess=longest_guess))
    print(hint("waste-paged", percent=f"{found[16]:.1f}", guess=paged_guess))
    fit = [fitting(lengths, page, 64 * 512) for page in (512, 16)]
    print(hint("waste-fit", longest=fit[0], paged=fit[1]))
    figure, axes = plt.subplots(figsize=(7.5, 3.6))
    axes.plot(list(found), list(found.values()), "o-", label=hint("plot-waste"))
    half = [100 * (page / 2) / (page / 2 + sum(lengths) / len(lengths)) for page in found]
    axes.plot(list(found), half, "k--", label=hint("plot-half"))
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(found), [str(page) for page in found])
    axes.set(xlabel=hint("plot-page"), ylabel=hint("plot-percent"))
    axes.legend()
    axes.grid(alpha=0.3)
    plt.show()

# %% [markdown] id="sweep-seen" lang="ko" reviewed="ee617db92fff"
# 대화 하나가 버리는 것은 **마지막 페이지의 빈 칸**뿐이에요. 평균하면 반 페이지쯤이니, 페이지를 줄이면 낭비도 그만큼 줄어요. 그렇다면 왜 한
# 칸짜리 페이지를 쓰지 않을까요? 뒤에서 직접 재 볼 거예요.

# %% [markdown] id="sweep-seen" lang="en"
# A conversation wastes **the empty places of its last page**, and nothing else: about half a page on average, so smaller pages waste
# less. Why not take pages of one place, then? We shall measure that.

# %% [markdown] id="task-pool" lang="ko" reviewed="dbc92401b602"
# ## 과제 2. 페이지 창고와 참조 횟수 (보통)
#
# 페이지를 나눠 주고 돌려받는 창고를 만들어요. 여러 대화가 같은 페이지를 함께 쓸 수 있으니, 페이지마다 **몇이 쓰고 있는지** 세어야 해요.
# 이것을 참조 횟수(reference count)라고 해요. `counts[page]`가 그 횟수이고, `free`는 빈 페이지 번호의 리스트예요.
#
# - `take()`: 빈 페이지 하나를 골라 그 번호를 돌려줘요. 이제 하나가 쓰고 있어요. 빈 페이지가 없으면 `MemoryError`를 일으켜요.
# - `share(page)`: 쓰는 이가 하나 늘어요.
# - `drop(page)`: 쓰는 이가 하나 줄어요. 아무도 안 쓰게 되면 빈 페이지로 돌아가요.
# - 아무도 안 쓰는 페이지를 `share`하거나 `drop`하면 `ValueError`를 일으켜요. 두 번 돌려주기(double free)는 남의 대화를 망가뜨리는 가장
#   무서운 버그이니, 조용히 넘어가면 안 돼요.

# %% [markdown] id="task-pool" lang="en"
# ## Task 2. A pool of pages and its reference counts (medium)
#
# Build the pool that hands out pages and takes them back. Several conversations may share a page, so for each page it counts **how
# many use it**: the reference count. `counts[page]` is that count; `free` is a list with the numbers of free pages.
#
# - `take()`: chooses a free page and returns its number; one uses it now. Raises `MemoryError` when none is free.
# - `share(page)`: one more uses it.
# - `drop(page)`: one fewer uses it. When nobody is left, the page is free again.
# - To `share` or `drop` a page that nobody uses raises `ValueError`. Giving a page back twice (double free) is the most dreadful
#   bug of all, since it destroys somebody else's conversation; it must not pass in silence.

# %% id="pool" kind="solution"
class Pool:
    def __init__(self, pages):
        self.counts = [0] * pages
        self.free = list(range(pages))

    def available(self):
        return len(self.free)

    def take(self):
        ### BEGIN SOLUTION
        if not self.free:
            raise MemoryError("no page is free")
        page = self.free.pop()
        self.counts[page] = 1
        return page
        ### END SOLUTION

    def share(self, page):
        ### BEGIN SOLUTION
        if self.counts[page] == 0:
            raise ValueError(f"nobody uses page {page}")
        self.counts[page] += 1
        ### END SOLUTION

    def drop(self, page):
        ### BEGIN SOLUTION
        if self.counts[page] == 0:
            raise ValueError(f"nobody uses page {page}")
        self.counts[page] -= 1
        if self.counts[page] == 0:
            self.free.append(page)
        ### END SOLUTION

# %% id="raises" kind="locked"
def assert_close(found, expected, text):
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, msg=text)


def raises(error, function, *arguments):
    try:
        function(*arguments)
    except error:
        return True
    return False

# %% id="test-pool" kind="test" points=3
pool = submission.Pool(3)
first, second = pool.take(), pool.take()
assert first != second and {first, second} <= {0, 1, 2}, hint("pool-distinct")
assert pool.available() == 1 and pool.counts[first] == 1, hint("pool-count")
pool.share(first)
pool.drop(first)
assert pool.available() == 1 and pool.counts[first] == 1, hint("pool-shared")
pool.drop(first)
assert pool.available() == 2 and pool.counts[first] == 0, hint("pool-drop")
assert raises(ValueError, pool.drop, first), hint("pool-double")
### BEGIN HIDDEN TESTS
assert raises(ValueError, pool.share, first), hint("pool-share-free")
assert pool.available() == 2 and pool.counts[first] == 0, hint("pool-double")
third = pool.take()
fourth = pool.take()
assert sorted([second, third, fourth]) == [0, 1, 2], hint("pool-distinct")
assert raises(MemoryError, pool.take), hint("pool-full")
assert pool.available() == 0 and list(pool.counts) == [1, 1, 1], hint("pool-full")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
pool, other, users = submission.Pool(12), submission.Pool(12), {}
for _ in range(600):
    what, page = random.choice(["take", "share", "drop", "drop"]), random.randrange(12)
    if what == "take" and len(users) < 12:
        page = pool.take()
        assert page not in users, hint("pool-distinct")
        users[page] = 1
    elif what == "take":
        assert raises(MemoryError, pool.take), hint("pool-full")
    elif page not in users:
        assert raises(ValueError, getattr(pool, what), page), hint("pool-double")
    else:
        getattr(pool, what)(page)
        users[page] += 1 if what == "share" else -1
        users = {page: count for page, count in users.items() if count}
    assert pool.available() == 12 - len(users), hint("pool-trace")
    assert list(pool.counts) == [users.get(page, 0) for page in range(12)], hint("pool-trace")
assert other.available() == 12 and list(other.counts) == [0] * 12, hint("pool-apart")
### END HIDDEN TESTS

# %% [markdown] id="task-tables" lang="ko" reviewed="5218a50f15ec"
# ## 과제 3. 블록 테이블, 갈라지기, 쓸 때 복사 (어려움)
#
# 같은 질문에 답을 여덟 개 만들어 그중 좋은 것을 고른다고 해 봐요. 프롬프트의 KV는 여덟 답이 똑같으니 한 벌이면 돼요. 그래서 대화를
# **갈라지게**(fork) 할 때는 페이지를 복사하지 않고 테이블만 복사해요. 그러다 한쪽이 함께 쓰던 페이지에 **새 토큰을 쓰려는 순간**, 그때
# 비로소 그 페이지를 복사해요. 이것을 쓸 때 복사(copy on write)라고 해요.
#
# `Tables`에서 `pages[name]`은 대화 `name`의 페이지 번호 리스트, `lengths[name]`은 토큰의 수예요. `add(name, shared)`는 이미 있는 꽉 찬
# 페이지들로 시작하는 새 대화를 만들어요. 나머지 세 메서드를 완성하세요.
#
# - `append(name, t)`: 토큰 `t`개가 들어갈 자리를 마련하고, 그 **자리 번호** `t`개를 차례대로 리스트에 담아 돌려줘요. 페이지 `n`의 `i`번째
#   칸의 자리 번호는 `n * page + i`예요. 새 페이지는 마지막 페이지가 꽉 찼는데 토큰이 더 들어올 때에만 가져와요.
#   - 마지막 페이지가 **덜 찼고 남과 함께 쓰고 있으면**, 먼저 새 페이지를 가져와 `self.copy(원래 페이지, 새 페이지)`로 내용을 옮기고 원래
#     페이지는 놓아줘요. 혼자 쓰고 있거나 꽉 찼으면 복사할 까닭이 없어요.
#   - 필요한 페이지가 모자라면 `MemoryError`를 일으키되, **아무것도 바꾸지 않은 채로** 남겨야 해요. `t`가 0이면 아무 일도 일어나지 않아요.
# - `fork(name, child)`: `name`과 똑같은 대화 `child`를 만들어요. 페이지는 함께 써요.
# - `free(name)`: 대화를 `pages`와 `lengths`에서 없애고 페이지를 모두 놓아줘요. 없는 이름이면 `KeyError`가 나야 해요.

# %% [markdown] id="task-tables" lang="en"
# ## Task 3. Block tables, forks, copy on write (hard)
#
# Say you make eight answers to one question and keep the best. All eight have the same KV for the prompt, so one copy is
# enough. When a conversation **forks**, only its table is copied, not its pages. And **at the moment when one of them is to write** into
# a page that it shares, that page is copied. This is called copy on write.
#
# In `Tables`, `pages[name]` is the list of page numbers of conversation `name`, and `lengths[name]` its number of tokens.
# `add(name, shared)` makes a new conversation that begins with full pages which exist already. Complete the other three methods.
#
# - `append(name, t)`: makes room for `t` tokens and returns a list of their `t` **places** in order. Place `i` of page `n` has the
#   number `n * page + i`. A new page is taken only for a token that the last page has no room for.
#   - If the last page is **not full and shared with others**, take a new page first, move the contents with
#     `self.copy(old page, new page)`, and let go of the old one. If nobody else uses it, or if it is full, there is no reason to copy.
#   - Raise `MemoryError` when there are too few pages, and leave **everything as it was**. With `t` = 0 nothing happens.
# - `fork(name, child)`: makes a conversation `child` equal to `name`; they share the pages.
# - `free(name)`: takes the conversation out of `pages` and `lengths` and lets go of all its pages. An unknown name raises `KeyError`.

# %% id="tables" kind="solution"
class Tables:
    def __init__(self, pool, page, copy):
        self.pool, self.page, self.copy = pool, page, copy
        self.pages, self.lengths = {}, {}

    def add(self, name, shared=()):
        for page in shared:
            self.pool.share(page)
        self.pages[name] = list(shared)
        self.lengths[name] = len(shared) * self.page

    def append(self, name, t):
        ### BEGIN SOLUTION
        pages, length = self.pages[name], self.lengths[name]
        fresh = pages_needed(length + t, self.page) - len(pages)
        copied = t > 0 and length % self.page > 0 and self.pool.counts[pages[-1]] > 1
        if fresh + copied > self.pool.available():
            raise MemoryError(f"{fresh + copied} pages are needed")
        if copied:
            own, old = self.pool.take(), pages[-1]
            self.copy(old, own)
            self.pool.drop(old)
            pages[-1] = own
        pages += [self.pool.take() for _ in range(fresh)]
        self.lengths[name] += t
        at = range(length, length + t)
        return [pages[i // self.page] * self.page + i % self.page for i in at]
        ### END SOLUTION

    def fork(self, name, child):
        ### BEGIN SOLUTION
        self.add(child, self.pages[name])
        self.lengths[child] = self.lengths[name]
        ### END SOLUTION

    def free(self, name):
        ### BEGIN SOLUTION
        for page in self.pages.pop(name):
            self.pool.drop(page)
        del self.lengths[name]
        ### END SOLUTION

# %% id="notebook-memory" kind="locked"
class Sheets:
    def __init__(self, pages, page):
        self.page, self.copies = page, 0
        self.sheets = [[None] * page for _ in range(pages)]

    def copy(self, source, target):
        self.copies += 1
        self.sheets[target] = list(self.sheets[source])

    def write(self, places, tokens):
        for place, token in zip(places, tokens, strict=True):
            self.sheets[place // self.page][place % self.page] = token

    def read(self, tables, name):
        table, length = list(tables.pages[name]), tables.lengths[name]
        return [self.sheets[table[p // self.page]][p % self.page] for p in range(length)]

# %% id="test-tables" kind="test" points=3
sheets, pool = Sheets(8, 4), submission.Pool(8)
tables = submission.Tables(pool, 4, sheets.copy)
tables.add("a")
places = tables.append("a", 6)
assert len(places) == len(set(places)) == 6 and max(places) < 32, hint("tables-places")
assert pool.available() == 6 and tables.lengths["a"] == 6, hint("tables-pages")
sheets.write(places, "abcdef")
assert sheets.read(tables, "a") == list("abcdef"), hint("tables-order")
tables.fork("a", "b")
assert pool.available() == 6 and sheets.copies == 0, hint("tables-fork")
sheets.write(tables.append("b", 1), "X")
assert sheets.copies == 1 and pool.available() == 5, hint("tables-copy")
assert sheets.read(tables, "a") == list("abcdef"), hint("tables-other")
assert sheets.read(tables, "b") == list("abcdefX"), hint("tables-own")
### BEGIN HIDDEN TESTS
sheets.write(tables.append("a", 1), "Y")
assert sheets.copies == 1 and pool.available() == 5, hint("tables-last-owner")
assert sheets.read(tables, "a") == list("abcdefY"), hint("tables-own")
tables.free("a")
assert sheets.read(tables, "b") == list("abcdefX"), hint("tables-free-other")
assert pool.available() == 6, hint("tables-leak")
assert "a" not in tables.pages and "a" not in tables.lengths, hint("tables-ended")
assert raises(KeyError, tables.free, "a"), hint("tables-free-twice")
tables.free("b")
assert pool.available() == 8 and list(pool.counts) == [0] * 8, hint("tables-leak")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
sheets, pool = Sheets(4, 4), submission.Pool(4)
tables = submission.Tables(pool, 4, sheets.copy)
tables.add("a")
sheets.write(tables.append("a", 8), "abcdefgh")
tables.fork("a", "b")
sheets.write(tables.append("b", 2), "ij")
assert sheets.copies == 0 and pool.available() == 1, hint("tables-full-page")
assert list(tables.append("a", 0)) == [] and pool.available() == 1, hint("tables-nothing")
before = list(tables.pages["a"])
assert raises(MemoryError, tables.append, "a", 9), hint("tables-refuse")
assert list(tables.pages["a"]) == before and tables.lengths["a"] == 8, hint("tables-unchanged")
assert pool.available() == 1, hint("tables-unchanged")
tables.fork("b", "c")
assert list(tables.append("c", 0)) == [] and sheets.copies == 0, hint("tables-nothing")
assert raises(MemoryError, tables.append, "c", 3), hint("tables-refuse-copy")
assert pool.available() == 1 and sheets.copies == 0, hint("tables-unchanged")
sheets.write(tables.append("c", 2), "kl")
assert sheets.read(tables, "c") == list("abcdefghijkl"), hint("tables-own")
assert sheets.read(tables, "b") == list("abcdefghij"), hint("tables-other")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
lengths_drawn = conversation_lengths(random.random(), 200)
pool = submission.Pool(4000)
tables = submission.Tables(pool, 16, Sheets(1, 1).copy)
for name, length in enumerate(lengths_drawn):
    tables.add(name)
    tables.append(name, length - length // 3)
for name, length in enumerate(lengths_drawn):
    tables.append(name, length // 3)
used = 16 * (4000 - pool.available())
assert 1 - sum(lengths_drawn) / used <= 0.04, hint("tables-waste")
### END HIDDEN TESTS

# %% id="test-trace" kind="test" points=4
sheets, pool = Sheets(6, 2), submission.Pool(6)
tables = submission.Tables(pool, 2, sheets.copy)
tables.add("parent")
sheets.write(tables.append("parent", 3), "abc")
for child in ("x", "y"):
    tables.fork("parent", child)
    sheets.write(tables.append(child, 1), child)
tables.free("parent")
assert sheets.read(tables, "x") == list("abcx"), hint("trace-first")
assert sheets.read(tables, "y") == list("abcy"), hint("trace-first")
assert pool.available() == 3, hint("trace-first")
### BEGIN HIDDEN TESTS
class Oracle:
    def __init__(self, page):
        self.page, self.copies, self.blocks = page, 0, {}

    def users(self, block):
        return sum(any(each is block for each in blocks) for blocks in self.blocks.values())

    def append(self, name, tokens):
        blocks = self.blocks[name]
        if tokens and blocks and len(blocks[-1]) < self.page and self.users(blocks[-1]) > 1:
            blocks[-1] = list(blocks[-1])
            self.copies += 1
        for token in tokens:
            if not blocks or len(blocks[-1]) == self.page:
                blocks.append([])
            blocks[-1].append(token)

    def text(self, name):
        return [token for block in self.blocks[name] for token in block]

    def used(self):
        return len({id(block) for blocks in self.blocks.values() for block in blocks})


for page, pages in [(1, 20), (3, 14), (4, 30), (16, 9)]:
    sheets, pool, oracle = Sheets(pages, page), submission.Pool(pages), Oracle(page)
    tables, names = submission.Tables(pool, page, sheets.copy), []
    for step in range(160):
        what = random.choice(["add", "append", "append", "append", "fork", "free"])
        name = random.choice(names) if names else None
        if what == "add" or name is None:
            names.append(step)
            tables.add(step)
            oracle.blocks[step] = []
        elif what == "fork":
            names.append(step)
            tables.fork(name, step)
            oracle.blocks[step] = list(oracle.blocks[name])
        elif what == "free":
            names.remove(name)
            tables.free(name)
            del oracle.blocks[name]
        else:
            tokens = [(step, i) for i in range(random.choice([1, 1, 2, page, 2 * page + 1]))]
            after = copy.deepcopy(oracle)
            after.append(name, tokens)
            if after.used() > pages:
                assert raises(MemoryError, tables.append, name, len(tokens)), hint("trace-refuse")
            else:
                sheets.write(tables.append(name, len(tokens)), tokens)
                oracle = after
        assert pool.available() == pages - oracle.used(), hint("trace-pages", page=page)
        assert sheets.copies == oracle.copies, hint("trace-copies", page=page)
        for name in random.sample(names, min(3, len(names))):
            assert sheets.read(tables, name) == oracle.text(name), hint("trace-text", page=page)
    for name in names:
        assert sheets.read(tables, name) == oracle.text(name), hint("trace-text", page=page)
        tables.free(name)
    assert pool.available() == pages and list(pool.counts) == [0] * pages, hint("trace-leak")
### END HIDDEN TESTS

# %% [markdown] id="fork" lang="ko" reviewed="d21a12a3074a"
# 토큰 200개짜리 프롬프트 하나에서 답 여덟 개를 30토큰씩 만들어 볼게요. 따로따로 만들 때와 갈라져서 만들 때 페이지를 몇 개 쓰는지
# 비교하고, 갈라진 쪽의 메모리를 그려요. 네모 하나가 페이지 하나이고, 숫자는 그 페이지를 쓰는 대화의 수예요.

# %% [markdown] id="fork" lang="en"
# Let us make eight answers of 30 tokens each to one prompt of 200 tokens, and compare how many pages they take when each is on its own and
# when all are forked from one. The picture shows the memory of the forked ones: a square is a page, the number says how many
# conversations use it.

# %% id="fork-code" kind="demo"
with when_solved():
    pool, sheets = Pool(48), Sheets(48, 16)
    tables = Tables(pool, 16, sheets.copy)
    tables.add("prompt")
    tables.append("prompt", 200)
    for answer in range(8):
        tables.fork("prompt", answer)
    tables.free("prompt")
    for _ in range(30):
        for answer in range(8):
            tables.append(answer, 1)
    print(hint("fork-apart", pages=8 * pages_needed(230, 16)))
    print(hint("fork-shared", pages=48 - pool.available(), copies=sheets.copies))
    order = sorted(range(48), key=lambda page: -pool.counts[page])
    grid = torch.tensor([pool.counts[page] for page in order]).view(4, 12)
    figure, axes = plt.subplots(figsize=(7.5, 2.7))
    axes.pcolormesh(grid, cmap="Blues", vmin=0, vmax=10, edgecolors="0.6", linewidth=0.5)
    axes.invert_yaxis()
    for row in range(4):
        for column in range(12):
            colour = "white" if grid[row, column] > 4 else "black"
            number = int(grid[row, column])
            axes.text(column + 0.5, row + 0.5, number, ha="center", va="center", color=colour)
    axes.set(xticks=[], yticks=[], aspect="equal", title=hint("plot-map"))
    plt.show()

# %% [markdown] id="task-gather" lang="ko" reviewed="00ce9068bef7"
# ## 과제 4. 페이지에 쓰고, 페이지에서 모으기 (보통)
#
# 이제 진짜 키와 값을 담아요. `Store`는 층마다 모양 `(pages, page, heads, size)`인 텐서를 갖고 있어요. `forward_paged`는 4.1의
# `forward_cached`와 같은 일을 하되, 새 키와 값을 테이블이 가리키는 자리에 쓰고, 어텐션을 하기 전에 지금까지의 키와 값을 모아 와요. 두 함수를
# 완성하세요. 텐서의 인덱싱을 쓰면 반복문이 없어도 돼요.
#
# - `write(memory, places, new)`: `memory`는 한 층의 키(또는 값), 모양 `(pages, page, heads, size)`. `places`는 `append`가 돌려준 자리 번호
#   `t`개의 리스트, `new`는 모양 `(heads, t, size)`. `new`의 `j`번째 토큰을 자리 `places[j]`에 써넣고 `memory`를 돌려줘요. 받은 텐서 **바로
#   그 안에** 써야 해요.
# - `gather(memory, table, length)`: `table`은 페이지 번호의 리스트. 앞에서부터 토큰 `length`개를 모아 모양 `(heads, length, size)`로 돌려줘요.

# %% [markdown] id="task-gather" lang="en"
# ## Task 4. Write into pages, gather from pages (medium)
#
# Now for real keys and values. A `Store` has a tensor of shape `(pages, page, heads, size)` for each layer. `forward_paged` does what
# `forward_cached` of 4.1 did, but writes new keys and values to the places that the table says, and gathers all keys and values so
# far before attention. Complete two functions; with indexing of tensors they need no loops.
#
# - `write(memory, places, new)`: `memory` is one layer's keys (or values), of shape `(pages, page, heads, size)`; `places` the
#   list of `t` places that `append` returned; `new` has the shape `(heads, t, size)`. Writes token `j` of `new` to place `places[j]`
#   and returns `memory`. It must write **into the very tensor** that it got.
# - `gather(memory, table, length)`: `table` is a list of page numbers. Gathers the first `length` tokens into the shape
#   `(heads, length, size)`.

# %% id="gather" kind="solution"
def write(memory, places, new):
    ### BEGIN SOLUTION
    memory.view(-1, *memory.shape[2:])[places] = new.transpose(0, 1)
    return memory
    ### END SOLUTION


def gather(memory, table, length):
    ### BEGIN SOLUTION
    return memory[table].flatten(0, 1)[:length].transpose(0, 1)
    ### END SOLUTION

# %% id="forward-code" kind="locked"
class Store:
    def __init__(self, model, pages, page):
        shape = (model.layers, pages, page, model.kv_heads, model.size)
        self.keys = torch.zeros(shape, dtype=model.dtype, device=model.head.device)
        self.values = torch.zeros_like(self.keys)
        self.copies = 0

    def copy(self, source, target):
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]
        self.copies += 1


def forward_paged(model, tokens, store, tables, name):
    past, t, device = tables.lengths[name], len(tokens), store.keys.device
    places, table = tables.append(name, t), tables.pages[name]
    seen = past + torch.arange(t, device=device)[:, None]
    mask = torch.arange(past + t, device=device) <= seen
    x = model.embed(torch.tensor([tokens], device=device), past)
    for layer in range(model.layers):
        q, k, v = model.project(layer, x)
        write(store.keys[layer], places, k[0])
        write(store.values[layer], places, v[0])
        keys = gather(store.keys[layer], table, past + t)
        values = gather(store.values[layer], table, past + t)
        x = model.finish(layer, x, attend(q, keys[None], values[None], mask))
    return model.logits(x)[0]

# %% id="test-gather" kind="test" points=2
memory = torch.zeros(5, 4, 2, 3)
new = torch.arange(2 * 3 * 3.0).view(2, 3, 3) + 1
found = submission.write(memory, [6, 7, 12], new)
assert tuple(found.shape) == (5, 4, 2, 3), hint("write-shape")
for j, (page, i) in enumerate([(1, 2), (1, 3), (3, 0)]):
    assert torch.equal(found[page, i], new[:, j]), hint("write-place")
memory = torch.arange(5 * 4 * 2 * 3.0).view(5, 4, 2, 3)
found = submission.gather(memory, [3, 0], 6)
assert tuple(found.shape) == (2, 6, 3), hint("gather-shape")
assert torch.equal(found[:, 0], memory[3, 0]), hint("gather-order")
assert torch.equal(found[:, 5], memory[0, 1]), hint("gather-order")
### BEGIN HIDDEN TESTS
for pages, page, heads, size in [(9, 1, 1, 2), (7, 5, 3, 4), (3, 16, 2, 8)]:
    memory = torch.randn(pages, page, heads, size, dtype=torch.float64)
    table = random.sample(range(pages), 3)
    for length in (1, page, 2 * page + 1, 3 * page):
        found = submission.gather(memory, table, length)
        assert tuple(found.shape) == (heads, length, size), hint("gather-shape")
        for p in range(length):
            expected = memory[table[p // page], p % page]
            assert torch.equal(found[:, p], expected), hint("gather-order")
    places = random.sample(range(pages * page), min(4, pages * page))
    new = torch.randn(heads, len(places), size, dtype=torch.float64)
    found, expected = submission.write(memory, places, new), memory.clone()
    for j, place in enumerate(places):
        expected[place // page, place % page] = new[:, j]
    assert torch.equal(found, expected), hint("write-others")
### END HIDDEN TESTS

# %% id="test-forward" kind="test" points=3
tokens = academy_lm.encode("The first argument ")
store, pool = submission.Store(exact, 12, 4), submission.Pool(12)
tables = submission.Tables(pool, 4, store.copy)
tables.add("a")
expected = exact.forward(torch.tensor([tokens]))[0]
found = submission.forward_paged(exact, tokens[:7], store, tables, "a")
assert_close(found, expected[:7], hint("forward-first"))
found = submission.forward_paged(exact, tokens[7:], store, tables, "a")
assert_close(found, expected[7:], hint("forward-second"))
### BEGIN HIDDEN TESTS
for page, pages in [(1, 90), (5, 30), (16, 12)]:
    store, pool = submission.Store(exact, pages, page), submission.Pool(pages)
    tables, texts = submission.Tables(pool, page, store.copy), {}
    for name in ("a", "b"):
        tables.add(name)
        texts[name] = []
    for t in (9, 1, 1, 4):
        for name in list(texts):
            new = [random.randrange(256) for _ in range(t)]
            texts[name] = texts[name] + new
            found = submission.forward_paged(exact, new, store, tables, name)
            expected = exact.forward(torch.tensor([texts[name]]))[0, -t:]
            assert_close(found, expected, hint("forward-several", page=page))
        if len(texts) == 2:
            tables.fork("a", "c")
            texts["c"] = texts["a"]
    for name in texts:
        tables.free(name)
    assert pool.available() == pages, hint("tables-leak")
store, pool = submission.Store(exact, 1, 16), submission.Pool(1)
tables = submission.Tables(pool, 16, store.copy)
for name in ("a", "b"):
    tables.add(name)
    tokens = [random.randrange(256) for _ in range(9)]
    found = submission.forward_paged(exact, tokens, store, tables, name)
    expected = exact.forward(torch.tensor([tokens]))[0]
    assert_close(found, expected, hint("forward-several", page=16))
    tables.free(name)
### END HIDDEN TESTS

# %% [markdown] id="task-keys" lang="ko" reviewed="4523963828b4"
# ## 과제 5. 아는 접두사 찾기 (어려움)
#
# 새 프롬프트가 예전에 계산한 것과 **똑같이 시작하는지** 어떻게 알까요? 꽉 찬 페이지마다 열쇠를 만들어 사전에 적어 두면 돼요. 조심할 점이
# 하나 있어요. 키와 값은 그 토큰만이 아니라 **앞에 나온 모든 토큰**에 달려 있어요. 그러니 열쇠도 처음부터 그 페이지 끝까지의 모든 토큰으로
# 정해져야 해요. 앞 페이지의 열쇠와 이 페이지의 토큰을 함께 해시하면 돼요.
#
# - `page_keys(tokens, page)`: **꽉 찬** 페이지마다 열쇠 하나씩, 리스트로 돌려줘요. 그 페이지 끝까지의 토큰이 모두 같으면 열쇠가 같고, 하나라도
#   다르면 열쇠가 달라야 해요. 열쇠는 수, 문자열, 바이트, 튜플 가운데 아무것이나 좋아요.
#
# `PrefixCache`의 `pages`는 열쇠에서 페이지 번호를 찾는 사전이고, **가장 오래 안 쓴 것이 맨 앞**에 오도록(LRU) 순서를 지켜요. 캐시도 페이지를 쓰는
# 이 가운데 하나예요. 그래서 대화가 끝나도 페이지가 남아 있어요.
#
# - `match(tokens)`: 앞에서부터 **끊기지 않고** 아는 페이지 번호를 리스트로 돌려줘요. 참조 횟수는 바꾸지 않아요. 찾은 페이지는 방금 쓴 것이
#   되는데, 그 가운데서는 **뒤 페이지를 먼저 내보내도록** 순서를 정해요. 앞 페이지가 없으면 뒤 페이지는 찾을 수도 없으니까요.
# - `insert(tokens, table)`: `tokens`의 꽉 찬 페이지들을 적어 둬요. `table`은 이 대화의 페이지 번호예요. 새로 적는 페이지는 `share`해요. 이미 아는
#   열쇠는 원래 페이지를 그대로 둬요. 순서는 `match`와 같은 규칙으로 정해요.
# - `evict(wanted)`: 빈 페이지가 `wanted`개가 될 때까지, 오래 안 쓴 것부터 **캐시 말고는 아무도 안 쓰는** 페이지를 놓아줘요. 대화가 쓰고 있는
#   페이지는 건너뛰어요. 놓아준 페이지의 수를 돌려줘요. 모자라도 오류는 아니에요.

# %% [markdown] id="task-keys" lang="en"
# ## Task 5. Find a known prefix (hard)
#
# How do we know that a new prompt **begins just like** one that was computed before? Make a key for every full page and keep a
# dictionary. One thing needs care: keys and values depend not only on their own token but on **all tokens before it**. So must the key of
# a page: on all tokens from the first to the end of that page. Hash the key of the page before together with the tokens of this one.
#
# - `page_keys(tokens, page)`: a list with one key for each **full** page. Keys are equal when all tokens up to the end of the page are,
#   and differ when one token does. A key may be a number, a string, bytes or a tuple.
#
# In `PrefixCache`, `pages` is a dictionary from keys to page numbers, in order: **what was not used for the longest time comes
# first** (LRU, least recently used). The cache counts as one user of each of its pages; that is why they stay when a conversation ends.
#
# - `match(tokens)`: returns a list of the known pages from the front, **without a gap**. It changes no reference count. The pages found have
#   just been used; among them, **the later page is to be evicted first**, since without the earlier one it could not be found.
# - `insert(tokens, table)`: notes the full pages of `tokens`; `table` has the page numbers of this conversation. `share` each page that
#   is newly noted. A key that is known keeps its page. The order follows the same rule as in `match`.
# - `evict(wanted)`: until `wanted` pages are free, lets go of pages that **nobody but the cache** uses, beginning with the one not used
#   for the longest time; pages in use by conversations are passed over. Returns how many it let go. Too few is no error.

# %% id="keys" kind="solution"
def page_keys(tokens, page):
    ### BEGIN SOLUTION
    keys, key = [], ""
    for end in range(page, len(tokens) + 1, page):
        text = f"{key} {list(tokens[end - page : end])}"
        key = hashlib.sha256(text.encode()).hexdigest()
        keys.append(key)
    return keys
    ### END SOLUTION


class PrefixCache:
    def __init__(self, pool, page):
        self.pool, self.page = pool, page
        self.pages = OrderedDict()

    def match(self, tokens):
        ### BEGIN SOLUTION
        known = []
        for key in page_keys(tokens, self.page):
            if key not in self.pages:
                break
            known.append(key)
        for key in reversed(known):
            self.pages.move_to_end(key)
        return [self.pages[key] for key in known]
        ### END SOLUTION

    def insert(self, tokens, table):
        ### BEGIN SOLUTION
        keys = page_keys(tokens, self.page)
        for key, page in zip(keys, table):
            if key not in self.pages:
                self.pool.share(page)
                self.pages[key] = page
        for key in reversed(keys):
            self.pages.move_to_end(key)
        ### END SOLUTION

    def evict(self, wanted):
        ### BEGIN SOLUTION
        unused = [key for key, page in self.pages.items() if self.pool.counts[page] == 1]
        dropped = 0
        while unused[dropped:] and self.pool.available() < wanted:
            self.pool.drop(self.pages.pop(unused[dropped]))
            dropped += 1
        return dropped
        ### END SOLUTION

# %% id="test-keys" kind="test" points=2
one, two = submission.page_keys([1, 2, 3, 4, 5], 2), submission.page_keys([1, 2, 3, 4, 9, 9], 2)
assert len(one) == 2 and len(two) == 3, hint("keys-full")
assert list(one) == list(two)[:2], hint("keys-same")
other = submission.page_keys([7, 2, 3, 4], 2)
assert other[1] != one[1], hint("keys-before")
### BEGIN HIDDEN TESTS
for short in ([], [1, 2, 3]):
    assert list(submission.page_keys(short, 4)) == [], hint("keys-full")
for a, b in [([1, 11], [11, 1]), ([1, 23], [12, 3]), ([2, 2], [1, 3])]:
    assert submission.page_keys(a, 2)[0] != submission.page_keys(b, 2)[0], hint("keys-order")
zeros = submission.page_keys([0, 0, 0, 0], 2)
assert zeros[0] != zeros[1], hint("keys-before")
for _ in range(40):
    page = random.randint(1, 20)
    tokens = [random.randrange(256) for _ in range(5 * page)]
    changed, at = list(tokens), random.randrange(5 * page)
    changed[at] = (changed[at] + random.randint(1, 255)) % 256
    before, after = submission.page_keys(tokens, page), submission.page_keys(changed, page)
    same = [a == b for a, b in zip(before, after)]
    assert same == [i < at // page for i in range(5)], hint("keys-before")
for most, n, prompts in [(1, 8, 300), (255, 40, 6000)]:
    keys = {}
    for _ in range(prompts):
        tokens = [random.randint(0, most) for _ in range(n)]
        for i, key in enumerate(submission.page_keys(tokens, 1), 1):
            assert keys.setdefault(tuple(tokens[:i]), key) == key, hint("keys-same")
    assert len(set(keys.values())) == len(keys), hint("keys-order")
### END HIDDEN TESTS

# %% id="test-prefix" kind="test" points=4
pool = submission.Pool(8)
tables = submission.Tables(pool, 2, Sheets(1, 1).copy)
cache = submission.PrefixCache(pool, 2)
tables.add("a")
tables.append("a", 5)
known = list(tables.pages["a"])
assert list(cache.match([1, 2, 3, 4, 5])) == [], hint("prefix-unknown")
cache.insert([1, 2, 3, 4, 5], known)
assert list(cache.match([1, 2, 3, 4, 9, 9])) == known[:2], hint("prefix-match")
assert list(cache.match([9, 2, 3, 4])) == [], hint("prefix-gap")
assert [pool.counts[page] for page in known] == [2, 2, 1], hint("prefix-count")
tables.free("a")
assert pool.available() == 6, hint("prefix-stays")
assert cache.evict(7) == 1 and pool.available() == 7, hint("prefix-evict")
assert list(cache.match([1, 2, 3, 4])) == known[:1], hint("prefix-later-first")
### BEGIN HIDDEN TESTS
assert cache.evict(7) == 0 and pool.available() == 7, hint("prefix-enough")
tables.add("b", cache.match([1, 2]))
assert cache.evict(8) == 0 and list(cache.match([1, 2])) == known[:1], hint("prefix-in-use")
tables.free("b")
assert cache.evict(100) == 1 and pool.available() == 8, hint("prefix-too-few")
assert list(cache.match([1, 2])) == [] and cache.evict(3) == 0, hint("prefix-gone")
pages = {}
for name in ("first", "second"):
    tables.add(name)
    tables.append(name, 4)
    pages[name] = list(tables.pages[name])
cache.insert([1, 2], pages["first"])
cache.insert([1, 2, 3, 4], pages["second"])
mixed = [pages["first"][0], pages["second"][1]]
assert list(cache.match([1, 2, 3, 4])) == mixed, hint("prefix-once")
tables.free("first")
assert cache.evict(6) == 1 and list(cache.match([1, 2, 3, 4])) == [], hint("prefix-gap")
tables.add("third")
tables.append("third", 2)
cache.insert([9, 9], list(tables.pages["third"]))
assert list(cache.match([1, 2, 3, 4])) == [], hint("prefix-gap")
tables.free("second")
tables.free("third")
assert cache.evict(7) == 1 and len(cache.match([9, 9])) == 1, hint("prefix-behind-gap")
assert cache.evict(8) == 1 and pool.available() == 8, hint("prefix-evict")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
pool = submission.Pool(12)
tables = submission.Tables(pool, 1, Sheets(1, 1).copy)
cache = submission.PrefixCache(pool, 1)
for name, token in enumerate([1, 2, 3, 1]):
    tables.add(name)
    tables.append(name, 1)
    cache.insert([token], list(tables.pages[name]))
for name in (0, 2, 3):
    tables.free(name)
assert cache.evict(10) == 1, hint("prefix-in-use")
tables.free(1)
assert cache.evict(11) == 1 and len(cache.match([1])) == 1, hint("prefix-order")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
def inserted(tables, cache, tokens):
    tables.add("new", cache.match(tokens))
    tables.append("new", len(tokens) - tables.lengths["new"])
    cache.insert(tokens, list(tables.pages["new"]))
    tables.free("new")


gone_first = [(1, 2, 3), (1, 2, 6), (1, 2), (1,), (7,), (4, 5), (4,)]
for dropped in range(8):
    pool = submission.Pool(12)
    tables = submission.Tables(pool, 1, Sheets(1, 1).copy)
    cache = submission.PrefixCache(pool, 1)
    for tokens in ([1, 2, 3], [4, 5], [1, 2, 6], [7]):
        inserted(tables, cache, tokens)
    assert pool.available() == 5, hint("prefix-once")
    assert len(cache.match([4, 5])) == 2, hint("prefix-match")
    assert cache.evict(5 + dropped) == dropped, hint("prefix-evict")
    for tokens in ([1, 2, 3], [1, 2, 6], [7], [4, 5]):
        left = 0
        while left < len(tokens) and tuple(tokens[: left + 1]) not in gone_first[:dropped]:
            left += 1
        assert len(cache.match(tokens)) == left, hint("prefix-least-recent")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
def prefixes(tokens):
    return [tuple(tokens[:end]) for end in range(2, len(tokens) + 1, 2)]


pool = submission.Pool(16)
tables = submission.Tables(pool, 2, Sheets(1, 1).copy)
cache, order, live = submission.PrefixCache(pool, 2), [], {}


def touch(used):
    for prefix in reversed(used):
        if prefix in order:
            order.remove(prefix)
        order.append(prefix)


def free_pages():
    return 16 - len(order) - sum(len(tokens) % 2 for tokens in live.values())


for step in range(150):
    tokens = [random.randint(0, 1) for _ in range(random.randint(1, 7))]
    what = random.choice(["serve", "serve", "end", "evict"])
    if what == "end" and live:
        name = random.choice(list(live))
        tables.free(name)
        del live[name]
    elif what == "evict" or free_pages() < 4:
        wanted = random.randint(1, 16)
        held = {prefix for tokens in live.values() for prefix in prefixes(tokens)}
        gone = [prefix for prefix in order if prefix not in held][: max(0, wanted - free_pages())]
        assert cache.evict(wanted) == len(gone), hint("prefix-trace")
        order[:] = [prefix for prefix in order if prefix not in gone]
    else:
        known = [prefix for prefix in prefixes(tokens) if prefix in order]
        found = cache.match(tokens)
        assert len(found) == len(known), hint("prefix-trace")
        touch(known)
        tables.add(step, found)
        tables.append(step, len(tokens) - tables.lengths[step])
        cache.insert(tokens, list(tables.pages[step]))
        live[step] = tokens
        touch(prefixes(tokens))
    assert pool.available() == free_pages(), hint("prefix-trace")
### END HIDDEN TESTS

# %% [markdown] id="task-prefill" lang="ko" reviewed="a6bee719a7c1"
# ## 과제 6. 아는 만큼 건너뛰기 (보통)
#
# 조각을 모두 이어 붙여요. `Server`는 모델, 창고, 테이블, 접두사 캐시를 한데 묶은 것이고, `server.forward(name, tokens)`는 대화에 토큰을 넣고
# 로짓 `(t, vocabulary)`를 돌려줘요. `prefill(server, name, prompt)`를 완성하세요. `prompt`는 토큰의 리스트이고 하나 이상이에요.
#
# - 아는 접두사를 찾아 그 페이지들로 시작하는 대화 `name`을 만들고, **나머지 토큰만 한 번에** 계산해요. 그 전에, 빈 페이지가 모자라면 모자라는
#   만큼만 캐시에서 내보내요. 계산한 다음에는 프롬프트를 캐시에 적어 둬요. 돌려주는 값은 마지막 토큰의 로짓, 모양 `(vocabulary,)`예요.
# - 프롬프트를 통째로 알고 있어도 **마지막 토큰 하나는 계산해야 해요.** 로짓은 캐시에 없으니까요. 그러니 `prompt[:-1]`에서 찾으세요.
# - 내보내고도 페이지가 모자라면 `MemoryError`가 나요. 이때 만들다 만 대화를 남겨 두면 페이지가 새요. 대화를 없앤 다음 오류를 그대로
#   올려 보내세요.
# - 순서를 잘 생각하세요. 방금 찾은 페이지를 **내가 쓰고 있다고 표시하기 전에** 내보내기를 하면 무슨 일이 생길까요?

# %% [markdown] id="task-prefill" lang="en"
# ## Task 6. Skip what is known (medium)
#
# Put the pieces together. A `Server` holds the model, the pool, the tables and the prefix cache; `server.forward(name, tokens)` puts
# tokens into a conversation and returns logits `(t, vocabulary)`. Complete `prefill(server, name, prompt)`; `prompt` is a list of
# at least one token.
#
# - Find the known prefix, make the conversation `name` beginning with its pages, and compute **only the remaining tokens, at once**.
#   Before that, if too few pages are free, evict from the cache as many as are lacking and no more. After it, note the prompt in the
#   cache. Return the logits of the last token, of shape `(vocabulary,)`.
# - Even when the whole prompt is known, **the last token must be computed**: logits are in no cache. So search in `prompt[:-1]`.
# - When pages are lacking even then, `MemoryError` comes up. A half-made conversation left behind would leak its pages: end it, then
#   let the error pass on.
# - Mind the order. What happens if you evict **before the pages just found are marked as yours**?

# %% id="prefill" kind="solution"
def prefill(server, name, prompt):
    ### BEGIN SOLUTION
    known = server.cache.match(prompt[:-1])
    server.tables.add(name, known)
    rest = prompt[server.tables.lengths[name] :]
    server.cache.evict(pages_needed(len(rest), server.tables.page))
    try:
        logits = server.forward(name, rest)
    except MemoryError:
        server.tables.free(name)
        raise
    server.cache.insert(prompt, server.tables.pages[name])
    return logits[-1]
    ### END SOLUTION

# %% id="server-code" kind="locked"
class Server:
    def __init__(self, model, pages, page):
        self.model, self.store, self.pool = model, Store(model, pages, page), Pool(pages)
        self.tables = Tables(self.pool, page, self.store.copy)
        self.cache = PrefixCache(self.pool, page)

    def forward(self, name, tokens):
        return forward_paged(self.model, tokens, self.store, self.tables, name)


def first_logits(server, prompt):
    logits = prefill(server, "new", prompt)
    server.tables.free("new")
    return logits


def last_logits(model, prompt):
    with model.head.device:
        return model.forward(torch.tensor([prompt]))[0, -1]


def instructed(seed, questions=1, shared=384, own=16):
    generator = random.Random(seed)
    system = [generator.randrange(32, 127) for _ in range(shared)]
    return [system + [generator.randrange(32, 127) for _ in range(own)] for _ in range(questions)]

# %% id="test-prefill" kind="test" points=4
server = submission.Server(exact, 20, 4)
prompt = academy_lm.encode("Use the source, Luke")
expected = exact.forward(torch.tensor([prompt]))[0, -1]
found = submission.prefill(server, "a", prompt)
assert tuple(found.shape) == (256,), hint("prefill-shape")
assert_close(found, expected, hint("prefill-first"))
exact.tokens = exact.calls = 0
found = submission.prefill(server, "b", prompt)
tokens, calls = exact.tokens, exact.calls
assert_close(found, expected, hint("prefill-again"))
assert tokens == 4 and calls == 1, hint("prefill-count", tokens=tokens, wanted=4)
### BEGIN HIDDEN TESTS
for page, pages in [(1, 80), (4, 60), (16, 60)]:
    server, seen, names = submission.Server(exact, pages, page), set(), []
    starts = [[random.randrange(256) for _ in range(3 * page + 1)] for _ in range(2)]
    sizes = [page, 2 * page, 3 * page + 1]
    for name in range(9):
        start = starts[name % 2][: sizes[name // 2] if name < 6 else random.choice(sizes)]
        prompt = start + [random.randrange(256) for _ in range(random.randint(0, page + 2))]
        known = 0
        while (known + 1) * page < len(prompt) and tuple(prompt[: (known + 1) * page]) in seen:
            known += 1
        expected = exact.forward(torch.tensor([prompt]))[0, -1]
        exact.tokens = 0
        found = submission.prefill(server, name, prompt)
        tokens, wanted = exact.tokens, len(prompt) - known * page
        assert_close(found, expected, hint("prefill-several", page=page))
        assert tokens == wanted, hint("prefill-count", tokens=tokens, wanted=wanted)
        seen |= {tuple(prompt[:end]) for end in range(page, len(prompt) + 1, page)}
        following = [random.randrange(256) for _ in range(2)]
        expected = exact.forward(torch.tensor([prompt + following]))[0, -2:]
        assert_close(server.forward(name, following), expected, hint("prefill-follow"))
        names.append(name)
        if random.random() < 0.5:
            server.tables.free(names.pop(random.randrange(len(names))))
    for name in names:
        server.tables.free(name)
    server.cache.evict(pages)
    assert server.pool.available() == pages, hint("prefill-leak")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
server = submission.Server(exact, 4, 1)
for name, prompt in enumerate([[65], [65, 66]]):
    expected = exact.forward(torch.tensor([prompt]))[0, -1]
    exact.tokens = 0
    found = submission.prefill(server, name, prompt)
    assert exact.tokens == 1, hint("prefill-count", tokens=exact.tokens, wanted=1)
    assert_close(found, expected, hint("prefill-several", page=1))
apart = [[random.randrange(256) for _ in range(121)] for _ in range(2)]
server = submission.Server(exact, 80, 4)
for name, prompt in enumerate([*apart, apart[0]]):
    expected = exact.forward(torch.tensor([prompt]))[0, -1]
    exact.tokens = 0
    assert_close(submission.prefill(server, name, prompt), expected, hint("prefill-first"))
    server.tables.free(name)
assert exact.tokens == 1, hint("prefill-kept")
server = submission.Server(exact, 12, 4)
apart = [[random.randrange(256) for _ in range(13)] for _ in range(3)]
for prompt in [*apart, apart[2][:8] + apart[0]]:
    submission.prefill(server, "a", prompt)
    free = server.pool.available()
    server.tables.free("a")
assert free == 0, hint("prefill-kept")
server = submission.Server(exact, 6, 4)
long = [random.randrange(256) for _ in range(16)]
submission.prefill(server, "a", long)
server.tables.free("a")
assert server.pool.available() == 2, hint("prefill-insert")
large = long[:12] + [random.randrange(256) for _ in range(16)]
assert raises(MemoryError, submission.prefill, server, "b", large), hint("prefill-refuse")
assert server.pool.available() in (2, 3), hint("prefill-refuse-leak")
assert "b" not in server.tables.pages and "b" not in server.tables.lengths, hint("prefill-refuse-leak")
assert max(server.pool.counts) == 1, hint("prefill-refuse-leak")
fitting_one = long[:12] + [random.randrange(256) for _ in range(12)]
expected = exact.forward(torch.tensor([fitting_one]))[0, -1]
exact.tokens = 0
found = submission.prefill(server, "c", fitting_one)
assert exact.tokens == 12, hint("prefill-count", tokens=exact.tokens, wanted=12)
assert_close(found, expected, hint("prefill-evicted"))
server.tables.free("c")
fresh = [random.randrange(256) for _ in range(23)]
expected = exact.forward(torch.tensor([fresh]))[0, -1]
assert_close(submission.prefill(server, "d", fresh), expected, hint("prefill-evicted"))
server.tables.free("d")
assert server.pool.available() == 1, hint("prefill-insert")
### END HIDDEN TESTS

# %% [markdown] id="task-speed" lang="ko" reviewed="c1df4b06ea38"
# ## 과제 7. 성능 기준 넘기
#
# 요청마다 처음 384토큰은 같은 안내문이고 마지막 16토큰만 달라요. 안내문을 한 번 읽은 서버에서 `prefill`은 400토큰을 처음부터 다 계산할
# 때보다 **3배 이상** 빨리 첫 로짓을 내놓아야 해요. 매번 새 질문으로, 순서를 번갈아 다섯 번 재서 CPU 시간 비율의 중앙값을 봐요. 이어지는
# 셀은 훨씬 큰 모델과 4,096토큰짜리 안내문으로 GPU에서 같은 것을 재요. GPU가 없으면 건너뛰고, 있더라도 아카데미의 GPU에서 기준을 맞춰 보기
# 전에는 결과를 보여 주기만 해요.

# %% [markdown] id="task-speed" lang="en"
# ## Task 7. The performance gate
#
# The first 384 tokens of every request are the same instructions, only the last 16 differ. On a server that has read the instructions
# once, `prefill` must give the first logits **at least 3 times** faster than computing all 400 tokens: the median of five ratios of CPU time,
# with a fresh question each time and in alternating order. The cell after it measures the same on a GPU, with a much larger model and
# instructions of 4,096 tokens. Without a GPU it is left out; with one, the figure is only reported until the gate has been calibrated on
# the academy's GPUs.

# %% id="speed-tools" kind="locked"
def same_logits(found, expected):
    return torch.allclose(found.cpu(), expected.cpu(), atol=1e-2)


def wide_model(device="cuda"):
    wide = academy_lm.Model(layers=8, heads=8, width=1024, longest=4352)
    for name in ("token_table", "position_table", "head"):
        setattr(wide, name, getattr(wide, name).to(device))
    for name in ("qkv", "out", "up", "down"):
        setattr(wide, name, [weight.to(device) for weight in getattr(wide, name)])
    return wide

# %% id="test-speed" kind="test" points=3
server = submission.Server(submission.model, 40, 16)
prompts = instructed(random.SystemRandom().randrange(10**9), 1000)
reached = speedup(
    submission.first_logits,
    lambda _, prompt: last_logits(model, prompt),
    lambda i: (server, prompts[i]),
    same_logits,
)
gate("first-token", reached, 3, hint("speed"))

# %% id="test-gpu" kind="test" points=2 gpu=true
if gpu():
    here, server = wide_model(), submission.Server(submission.wide_model(), 300, 16)
    prompts = instructed(random.SystemRandom().randrange(10**9), 1000, shared=4096)
    reached = speedup(
        submission.first_logits,
        lambda _, prompt: last_logits(here, prompt),
        lambda i: (server, prompts[i]),
        same_logits,
        gpu=True,
    )
    gate("gpu-first-token", reached, 3, hint("speed"))

# %% [markdown] id="limit" lang="ko" reviewed="fd35a1ee9252"
# ## 물리적인 한계와 비교하기
#
# 400토큰짜리 프롬프트에서 앞의 몇 토큰을 이미 알고 있느냐에 따라 첫 로짓까지 걸리는 시간을 그려요. 새로 계산할 토큰이 $n$개, 전체가
# $c$개일 때, 우리가 하는 계산을 빠짐없이 하려면 적어도 다음 둘 가운데 큰 쪽만큼은 걸려요.
#
# $$\text{한계} = \max\left(\frac{2Pn + 4 L w n c}{\text{연산 속도}},\ \frac{\text{가중치 바이트} + c \cdot \text{토큰 하나의 KV 바이트}}{\text{대역폭}}\right)$$
#
# $P$는 곱하는 가중치의 수, $L$은 층의 수, $w$는 폭이에요. 앞의 항은 가중치와 어텐션의 곱셈과 덧셈이고(`attend`는 마스크로 가릴 점수도
# 계산하니 그것까지 세요), 뒤의 항은 가중치와 지금까지의 키와 값을 한 번씩 읽는 시간이에요. 연산 속도와 대역폭은 **이 컴퓨터에서** 재요. 아는 토큰이 많을수록 앞의 항은 줄지만 뒤의 항은 줄지 않아요.

# %% [markdown] id="limit" lang="en"
# ## Against the physical limit
#
# Let us draw the time to the first logits of a prompt of 400 tokens by how many of them are known already. With $n$ tokens to compute and
# $c$ in all, everything that we compute takes at least the larger of these two:
#
# $$\text{limit} = \max\left(\frac{2Pn + 4 L w n c}{\text{arithmetic a second}},\ \frac{\text{weight bytes} + c \cdot \text{KV bytes of a token}}{\text{bandwidth}}\right)$$
#
# $P$ is the number of weights that are multiplied, $L$ the number of layers, $w$ the width. The first term is the arithmetic of weights and
# attention (`attend` computes masked scores too, so they count), the second reads the weights and all keys and values once. Arithmetic and bandwidth are measured **on this machine**. The
# more tokens are known, the smaller the first term; the second stays.

# %% id="limit-code" kind="demo"
def typical(function, repeats=15):
    times = []
    for _ in range(repeats):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return sorted(times)[repeats // 2]


multiplied = sum(weight.numel() for name, weight in model.weights().items() if "table" not in name)
block, square = torch.ones(multiplied), torch.ones(768, 768)
bandwidth = 4 * multiplied / typical(block.sum)
arithmetic = 2 * 768**3 / typical(lambda: square @ square)
print(f"{bandwidth / 1e9:.1f} GB/s  {arithmetic / 1e9:.0f} GFLOP/s")
known = [0, 64, 128, 192, 256, 320, 384]


def least_seconds(n, c=400):
    work = 2 * multiplied * n + 4 * model.layers * model.width * n * c
    return max(work / arithmetic, (4 * multiplied + c * token_bytes) / bandwidth)


def prepared(shared):
    server, prompts = Server(model, 60, 16), instructed(shared, 8, shared, 400 - shared)
    first_logits(server, prompts.pop())
    return lambda: first_logits(server, prompts.pop())


with when_solved():
    runs = {shared: prepared(shared) for shared in known}
    runs["whole"] = lambda: last_logits(model, instructed(0)[0])
    rounds = [{name: typical(run, repeats=1) for name, run in runs.items()} for _ in range(7)]
    ms = {name: 1e3 * sorted(each[name] for each in rounds)[3] for name in runs}
    limits = {shared: 1e3 * least_seconds(400 - shared) for shared in known}
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    axes.axhline(ms["whole"], color="C1", label=hint("plot-whole"))
    axes.plot(known, [ms[shared] for shared in known], "o-", label=hint("plot-prefill"))
    axes.plot(known, list(limits.values()), "k--", label=hint("plot-limit"))
    axes.set(xlabel=hint("plot-known"), ylabel=hint("plot-ms"), ylim=0)
    axes.legend()
    axes.grid(alpha=0.3)
    plt.show()
    for shared, limit in limits.items():
        percent = f"{100 * limit / ms[shared]:3.0f}"
        print(hint("achieved", shared=f"{shared:3}", ms=f"{ms[shared]:5.1f}", percent=percent))

# %% [markdown] id="limit-seen" lang="ko" reviewed="c1d2b364b370"
# 아는 토큰이 많을수록 시간이 줄어요. 오른쪽 끝에서는 한계가 훨씬 아래에 있는데 실제 시간은 어느 높이에서 멈춰요. 토큰 16개든 하나든
# 연산을 하나하나 시키는 비용, 페이지에서 키와 값을 모아 복사하는 비용, 프롬프트를 해시하는 비용이 남기 때문이에요. 새로
# 계산할 토큰이 많거나 모델이 크면 이런 비용은 눈에 덜 띄어요.

# %% [markdown] id="limit-seen" lang="en"
# The more tokens are known, the less time it takes. At the right end the limit is far lower, yet the measured time stops
# at some height: for 16 tokens or one, what remains is issuing the operations, gathering keys and values from their pages, and hashing
# the prompt. With more tokens to compute, or a larger model, these are seen less.

# %% [markdown] id="loses" lang="ko" reviewed="9ecf9e3749c8"
# ## 페이지가 손해일 때
#
# 세 가지를 재 볼게요.
#
# 1. **모으는 비용.** 이어진 캐시라면 그대로 읽으면 되는데, 우리는 단계마다 모든 키와 값을 복사해 와요. 대화가 길수록 토큰 하나를 디코드하는
#    시간이 얼마나 더 걸릴까요?
# 2. **페이지의 크기.** 한 칸짜리 페이지는 낭비가 없지만 테이블이 길어요. 128칸짜리 페이지는 접두사를 얼마나 재사용할까요?
# 3. **겹치는 것이 없을 때.** 요청이 모두 다르게 시작하면 접두사 캐시는 해시만 하고 얻는 것이 없어요.

# %% [markdown] id="loses" lang="en"
# ## Where paging loses
#
# Let us measure three cases.
#
# 1. **The cost of gathering.** A cache in one piece is read where it lies; we copy all keys and values together at every step. How much
#    longer does a token take to decode as the conversation grows?
# 2. **The size of a page.** Pages of one place waste nothing, but make a long table. How much of a prefix is reused with pages of 128?
# 3. **Nothing in common.** When all requests begin differently, a prefix cache hashes and gains nothing.

# %% id="loses-code" kind="demo"
class Contiguous:
    def __init__(self, model):
        shape = (model.layers, 1, model.kv_heads, model.longest, model.size)
        self.keys, self.values, self.length = torch.zeros(shape), torch.zeros(shape), 0

    def append(self, layer, k, v):
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, t):
        self.length += t


def contiguous_seconds(context):
    cache = Contiguous(model)
    model.forward(torch.tensor([instructed(0)[0][:context]]), cache)
    return typical(lambda: model.forward(torch.tensor([[65]]), cache))


def paged_seconds(context, page):
    server = Server(model, 512 // page, page)
    server.tables.add("a")
    server.forward("a", instructed(0)[0][:context])
    return typical(lambda: server.forward("a", [65]))


def reused(page, prompts):
    server, before = Server(model, 1024 // page, page), model.tokens
    for prompt in prompts:
        first_logits(server, prompt)
    return 1 - (model.tokens - before) / sum(map(len, prompts))


with when_solved():
    for context in (32, 128, 400):
        rounds = [(contiguous_seconds(context), paged_seconds(context, 16)) for _ in range(5)]
        one, paged = (min(times) for times in zip(*rounds))
        texts = {"one": f"{1e3 * one:.2f}", "paged": f"{1e3 * paged:.2f}"}
        print(hint("loses-gather", context=f"{context:3}", ratio=f"{paged / one:.2f}", **texts))
    prompts = instructed(3, 6, shared=100, own=30)
    for page in (1, 16, 64, 128):
        texts = {
            "ms": f"{1e3 * min(paged_seconds(400, page) for _ in range(5)):.2f}",
            "waste": f"{100 * wasted(lengths, page):4.1f}",
            "percent": f"{100 * reused(page, prompts):3.0f}",
        }
        print(hint("loses-page", page=f"{page:3}", **texts))
    server, prompts = Server(model, 60, 16), instructed(4, 100, shared=0, own=400)
    found = speedup(
        first_logits,
        lambda _, prompt: last_logits(model, prompt),
        lambda i: (server, prompts[i]),
        same_logits,
        rounds=9,
    )
    ms = {"apart": f"{1e3 * found.fast_seconds:.1f}", "whole": f"{1e3 * found.slow_seconds:.1f}"}
    ratio = found.slow_seconds / found.fast_seconds
    print(hint("loses-nothing", ratio=f"{ratio:.2f}", **ms))

# %% [markdown] id="loses-seen" lang="ko" reviewed="d7e537004727"
# 1. 대화가 짧을 때의 차이는 대부분 테이블을 다루는 고정 비용이고, 길어지면 모으는 비용이 그 위에 더해져요. 그래서 실제 서버의
#    GPU 커널(PagedAttention)은 모아서 복사하지 않고, **테이블을 보며 흩어진 페이지를 그 자리에서 읽어요.** 파이썬에서 텐서 연산만으로는
#    그렇게 할 수 없어서 우리는 값을 치렀어요.
# 2. 페이지가 크면 마지막 페이지가 더 많이 비고, 페이지 하나를 다 채우지 못한 접두사는 재사용하지 못해요. 한 칸짜리 페이지는 낭비가 없고 접두사를
#    한 토큰까지 재사용하는 대신, 세고 해시하고 찾을 것이 열여섯 배로 늘어요. vLLM은 따로 정하지 않으면 보통 16칸을 써요.
# 3. 겹치는 것이 없으면 접두사 캐시는 시간을 조금 쓰고(잴 때마다 흔들려서 한 번에는 안 보일 수도 있어요) 아무것도 돌려주지 않아요. 게다가
#    다시는 안 쓸 페이지로 메모리를 채우니, 정작 다시 쓸 페이지가 밀려날 수도 있어요.

# %% [markdown] id="loses-seen" lang="en"
# 1. For a short conversation the difference is mostly the fixed cost of handling the table; as it grows, gathering comes on top. Kernels on real servers' GPUs (PagedAttention) therefore do not copy anything: they
#    **read the scattered pages where they lie, by the table.** With tensor operations from Python that cannot be done, and we paid for it.
# 2. With large pages more of the last page is empty, and a prefix that does not fill a page is not reused. Pages of one place waste
#    nothing and reuse a prefix to the last token, but there are sixteen times as many to count, hash and look up. vLLM mostly
#    takes 16 unless told otherwise.
# 3. With nothing in common a prefix cache costs a little time, though a single measurement may not show it, and returns nothing. It
#    also fills the memory with pages that nobody will ask for again, which may drive out those that somebody would.

# %% [markdown] id="money" lang="ko" reviewed="ca01e17b486b"
# ## 돈으로 말하기
#
# 서비스에 들어오는 요청 가운데 같은 안내문으로 시작하는 것이 몇 %냐에 따라, **프롬프트 백만 토큰**을 처리하는 값이 얼마인지 매겨 봐요.
# `won_per_hour`는 예로 든 숫자이니 여러분이 쓰는 서버의 값으로 바꿔 보세요. `won_per_million`은 4.1에서 만든 함수예요. 겹치는 것이
# 하나도 없는 0%일 때의 값을 캐시가 없을 때와도 견주어 보세요. 차이가 작아서 잴 때마다 앞뒤가 바뀔 수도 있어요.

# %% [markdown] id="money" lang="en"
# ## Say it in money
#
# What do **a million prompt tokens** cost, by the share of requests that begin with the same instructions? `won_per_hour` is an
# example: put in that of a server you use. `won_per_million` is the function that you wrote in 4.1. Compare, too,
# the price at 0%, when nothing is shared, with that without a cache: the difference is small and may come out either way.

# %% id="money-code" kind="demo"
won_per_hour = 200


def won_per_million(tokens_per_second, won_per_hour):
    return won_per_hour / (tokens_per_second * 3600) * 1_000_000


def traffic(percent, n=10):
    same = instructed(5, n)
    other = [instructed(100 + i)[0] for i in range(n)]
    chosen = [i * percent // 100 != (i + 1) * percent // 100 for i in range(n)]
    return [same[i] if chosen[i] else other[i] for i in range(n)]


def handled(server, prompts):
    for prompt in prompts:
        first_logits(server, prompt) if server else last_logits(model, prompt)


with when_solved():
    seconds = {}
    for _ in range(5):
        for percent in (None, 0, 50, 90, 100):
            server = None if percent is None else Server(model, 60, 16)
            prompts, began = traffic(percent or 0), time.thread_time()
            handled(server, prompts)
            seconds.setdefault(percent, []).append(time.thread_time() - began)
    for percent, taken in seconds.items():
        won = won_per_million(4000 / min(taken), won_per_hour)
        key = "price-plain" if percent is None else "price"
        print(hint(key, percent=f"{percent!s:>3}", won=f"{won:.2f}"))

# %% [markdown] id="question" lang="ko" reviewed="66934a93b5bc"
# ## 생각을 글로 (손으로 채점, 4점)
#
# 여러분의 회사는 고객사 열 곳의 상담 챗봇을 서버 한 대로 운영해요. 고객사마다 3,000토큰짜리 안내문이 있고, 질문은 100토큰, 답은 300토큰
# 안팎이에요. KV 캐시에 쓸 메모리는 토큰 60,000개만큼이에요. **위에서 여러분이 잰 값과 만든 함수**를 근거로 6~10문장으로 답하세요. (1) 가장 긴
# 8,192토큰을 자리마다 잡아 둘 때와 16칸짜리 페이지를 쓰며 안내문을 함께 쓸 때, 동시에 몇 건을 받을 수 있나요? (2) 첫 토큰까지 걸리는 시간은
# 왜, 대략 몇 배나 줄어드나요? (3) 열 곳의 안내문이 다 들어가지 않는 날에는 무슨 일이 생기고, 내보내는 규칙을 어떻게 바꾸겠어요? (4) 고객사끼리
# 캐시를 함께 쓰면 **응답 시간만 보고도** 남의 프롬프트를 알아낼 수 있을까요? 어떻게 막겠어요?
#
# *채점 기준*: 두 경우의 수를 바르게 셈했다(1점), 계산하는 토큰의 비율과 잰 값으로 설명했다(1점), 쫓겨난 안내문을 번갈아 다시 계산하는 상황을
# 짚고 규칙을 제안했다(1점), 시간 차이로 새는 정보를 알아보고 막을 방법과 그 대가를 말했다(1점).

# %% [markdown] id="question" lang="en"
# ## In your own words (graded by hand, 4 points)
#
# Your company runs the chatbots of ten client firms on one server. Each firm has instructions of 3,000 tokens; a question has about 100 tokens
# and an answer 300. There is memory for the KV of 60,000 tokens. Using **what you measured above and the functions you wrote**, answer in 6
# to 10 sentences: (1) how many requests fit at once if 8,192 tokens are reserved for each, and how many with pages of 16 places and shared
# instructions? (2) why, and about how many times, does the time to the first token fall? (3) what happens on a day when the instructions of all
# ten do not fit, and how would you change the rule of eviction? (4) if the firms share one cache, can one of them learn another's prompt
# **just from response times**, and how would you prevent it?
#
# *Rubric*: computes both numbers correctly (1 point); explains by the share of computed tokens and by measured figures (1 point); sees that
# evicted instructions are computed over and over in turn, and proposes a rule (1 point); recognises the leak through timing, and names a
# remedy and its cost (1 point).

# %% [markdown] id="answer" kind="manual" points=4
# YOUR ANSWER HERE

# %% [markdown] id="further" lang="ko" reviewed="4fb66dcf8e42"
# ## 더 읽어 보기
#
# - Kwon 외, *Efficient Memory Management for Large Language Model Serving with PagedAttention*, SOSP (2023): KV 캐시를 페이지로 나누고, 함께
#   쓰고, 쓸 때 복사하는 법. vLLM이 여기서 나왔어요.
# - Zheng 외, *SGLang: Efficient Execution of Structured Language Model Programs*, NeurIPS (2024): 접두사를 페이지의 해시 대신 나무(radix
#   tree)로 찾는 법
# - Prabhu 외, *vAttention: Dynamic Memory Management for Serving LLMs without PagedAttention*, ASPLOS (2025): 페이지를 나누는 일을 하드웨어의
#   가상 메모리에 맡겨서, 이어진 캐시를 그대로 읽는 법
# - Denning, *Virtual Memory*, ACM Computing Surveys 2(3) (1970): 운영체제가 페이지의 크기와 내보내는 규칙을 어떻게 정해 왔는지
#   정리한 고전

# %% [markdown] id="further" lang="en"
# ## Read on
#
# - Kwon et al., *Efficient Memory Management for Large Language Model Serving with PagedAttention*, SOSP (2023): a KV cache in pages, shared,
#   copied on write; where vLLM comes from
# - Zheng et al., *SGLang: Efficient Execution of Structured Language Model Programs*, NeurIPS (2024): prefixes found in a radix tree
#   instead of by hashes of pages
# - Prabhu et al., *vAttention: Dynamic Memory Management for Serving LLMs without PagedAttention*, ASPLOS (2025): leaves paging to the
#   virtual memory of the hardware, so that a cache in one piece is read where it lies
# - Denning, *Virtual Memory*, ACM Computing Surveys 2(3) (1970): the classic survey of how operating systems came to choose the size of
#   pages and the rules of eviction
