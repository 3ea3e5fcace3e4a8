# fails: test-heavy
# ko: 마감 순서로 나눠 넣지만 아무도 거절하지 않아서, 늦을 사람을 붙들고 있다가 모두 늦어요.
# en: Goes by deadline and in chunks but rejects nobody, so that those who are late make everybody late.

# %% id="policy"
class Policy:
    def __init__(self, server):
        self.server = server
        self.spare = server["pages"] // 20

    def plan(self, view):
        page, running = self.server["page"], view["running"]
        out = victims(running, view["free"], page)
        stay = [request for request in running if request["number"] not in out]
        free = view["free"] - sum(request["context"] % page == 0 for request in stay)
        free += sum(pages_of(r["context"], page) for r in running if r["number"] in out)
        queue = sorted(view["waiting"], key=lambda r: (r["made"] == 0, r["deadline"]))
        room = prefill_room(self.server, stay)
        prefill = cut_prefill(queue, room, max(0, free - self.spare) if stay else free, page)
        if not (prefill or stay):
            out += [request["number"] for request in queue[1:] if request["context"]]
        return {"preempt": out, "prefill": prefill, "decode": [r["number"] for r in stay]}
