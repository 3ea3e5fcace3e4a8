# fails: test-keys
# ko: 페이지 안의 토큰만 해시해서, 앞이 다른 프롬프트의 페이지를 가져다 써요.
# en: Hashes only the page's own tokens, and takes pages of prompts that began differently.

# %% id="keys"
def page_keys(tokens, page):
    keys, key = [], ""
    for end in range(page, len(tokens) + 1, page):
        text = f"{list(tokens[end - page : end])}"
        key = hashlib.sha256(text.encode()).hexdigest()
        keys.append(key)
    return keys


class PrefixCache:
    def __init__(self, pool, page):
        self.pool, self.page = pool, page
        self.pages = OrderedDict()

    def match(self, tokens):
        known = []
        for key in page_keys(tokens, self.page):
            if key not in self.pages:
                break
            known.append(key)
        for key in reversed(known):
            self.pages.move_to_end(key)
        return [self.pages[key] for key in known]

    def insert(self, tokens, table):
        keys = page_keys(tokens, self.page)
        for key, page in zip(keys, table):
            if key not in self.pages:
                self.pool.share(page)
                self.pages[key] = page
        for key in reversed(keys):
            self.pages.move_to_end(key)

    def evict(self, wanted):
        unused = [key for key, page in self.pages.items() if self.pool.counts[page] == 1]
        dropped = 0
        while unused[dropped:] and self.pool.available() < wanted:
            self.pool.drop(self.pages.pop(unused[dropped]))
            dropped += 1
        return dropped
