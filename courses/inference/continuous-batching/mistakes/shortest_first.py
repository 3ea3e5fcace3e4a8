# fails: test-order
# ko: 짧은 요청부터 앉혀요. 평균은 빨라지지만 긴 요청은 영영 못 앉을 수 있어요.
# en: Seats the shortest request first: faster on average, but a long one may never be seated.

# %% id="scheduler"
class Request:
    def __init__(self, number, prompt, most, stop):
        self.number, self.prompt, self.most, self.stop = number, prompt, most, stop
        self.tokens = []


class Scheduler:
    def __init__(self, engine):
        self.engine = engine
        self.waiting = deque()
        self.running = {}
        self.free = list(range(engine.slots))

    def submit(self, number, prompt, most, stop=None):
        self.waiting.append(Request(number, prompt, most, stop))

    def admit(self):
        admitted = 0
        while self.waiting and self.free:
            request, slot = min(self.waiting, key=lambda waiting: waiting.most), self.free.pop()
            self.waiting.remove(request)
            request.tokens.append(self.engine.prefill(slot, request.prompt))
            self.running[slot] = request
            admitted += 1
        return admitted

    def evict(self):
        finished = []
        for slot, request in list(self.running.items()):
            if len(request.tokens) >= request.most or request.tokens[-1] == request.stop:
                self.engine.release(slot)
                self.free.append(slot)
                finished.append((request.number, self.running.pop(slot).tokens))
        return finished

    def step(self):
        finished = []
        while self.admit():
            finished += self.evict()
        if self.running:
            slots = sorted(self.running)
            latest = [self.running[slot].tokens[-1] for slot in slots]
            for slot, token in zip(slots, self.engine.decode(slots, latest)):
                self.running[slot].tokens.append(token)
        return finished + self.evict()
