# fails: test-step
# ko: 페이지가 모자랄 때 가장 늦게 온 요청이 아니라 가장 먼저 온 요청을 쫓아내요.
# en: When pages run out, puts out the earliest arrival instead of the latest.

# %% id="step"
def prefill_room(server, running):
    kv = sum(request["context"] for request in running)
    left = server["tpot"] - step_seconds(server, 0, len(running), kv)
    return max(0, math.floor(left / server["prefill"] + 1e-9))


def cut_prefill(waiting, room, free, page):
    cut = {}
    for request in waiting:
        held = pages_of(request["context"], page)
        tokens = min(request["todo"], room, (held + free) * page - request["context"])
        if tokens > 0:
            cut[request["number"]] = tokens
            room -= tokens
            free -= pages_of(request["context"] + tokens, page) - held
    return cut


def victims(running, free, page):
    stay, out = sorted(running, key=lambda r: (-r["arrived"], -r["number"])), []
    while sum(request["context"] % page == 0 for request in stay) > free:
        last = stay.pop()
        free += pages_of(last["context"], page)
        out.append(last["number"])
    return out
