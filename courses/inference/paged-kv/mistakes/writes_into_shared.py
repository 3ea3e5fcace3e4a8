# fails: test-tables
# ko: 함께 쓰는 페이지에 복사하지 않고 그대로 써서 남의 대화를 덮어써요.
# en: Writes into a shared page without a copy and destroys the other conversation.

# %% id="tables"
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
        pages, length = self.pages[name], self.lengths[name]
        fresh = pages_needed(length + t, self.page) - len(pages)
        copied = False
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

    def fork(self, name, child):
        self.add(child, self.pages[name])
        self.lengths[child] = self.lengths[name]

    def free(self, name):
        for page in self.pages.pop(name):
            self.pool.drop(page)
        del self.lengths[name]
