# fails: test-pool
# ko: 둘이 쓰던 페이지를 하나가 놓자마자 빈 페이지로 돌려보내요.
# en: Frees a page as soon as one of two users lets go.

# %% id="pool"
class Pool:
    def __init__(self, pages):
        self.counts = [0] * pages
        self.free = list(range(pages))

    def available(self):
        return len(self.free)

    def take(self):
        if not self.free:
            raise MemoryError("no page is free")
        page = self.free.pop()
        self.counts[page] = 1
        return page

    def share(self, page):
        if self.counts[page] == 0:
            raise ValueError(f"nobody uses page {page}")
        self.counts[page] += 1

    def drop(self, page):
        if self.counts[page] == 0:
            raise ValueError(f"nobody uses page {page}")
        self.counts[page] -= 1
        self.free.append(page)
