# fails: test-trace
# ko: 쓸 때 복사한 다음 원래 페이지를 놓아주지 않아서 페이지가 새요.
# en: Does not let go of the old page after a copy on write, and leaks it.

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
        copied = t > 0 and length % self.page > 0 and self.pool.counts[pages[-1]] > 1
        if fresh + copied > self.pool.available():
            raise MemoryError(f"{fresh + copied} pages are needed")
        if copied:
            own, old = self.pool.take(), pages[-1]
            self.copy(old, own)
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
