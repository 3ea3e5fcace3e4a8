# fails: test-prefill
# ko: 찾은 페이지를 내 것으로 표시하기 전에 내보내서, 방금 찾은 페이지가 사라져요.
# en: Evicts before the found pages are marked as its own, and loses what it found.

# %% id="prefill"
def prefill(server, name, prompt):
    known = server.cache.match(prompt[:-1])
    rest = prompt[len(known) * server.tables.page :]
    server.cache.evict(pages_needed(len(rest), server.tables.page))
    server.tables.add(name, known)
    try:
        logits = server.forward(name, rest)
    except MemoryError:
        server.tables.free(name)
        raise
    server.cache.insert(prompt, server.tables.pages[name])
    return logits[-1]
