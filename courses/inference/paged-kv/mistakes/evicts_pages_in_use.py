# fails: test-prefix
# ko: 대화가 쓰고 있는 페이지까지 내보내요.
# en: Evicts pages that conversations still use.

# %% id="keys"
def page_keys(tokens, page):
    keys, key = [], ""
    for end in range(page, len(tokens) + 1, page):
        text = f"{key} {list(tokens[end - page : end])}"
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
        unused = list(self.pages)
        dropped = 0
        while unused[dropped:] and self.pool.available() < wanted:
            self.pool.drop(self.pages.pop(unused[dropped]))
            dropped += 1
        return dropped
