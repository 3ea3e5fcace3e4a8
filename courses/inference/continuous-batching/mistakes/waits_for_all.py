# fails: test-steps
# ko: 앉아 있던 요청이 모두 끝나야 다음 요청들을 앉혀요. 정적 배칭과 같아져요.
# en: Seats newcomers only when everybody is done, which is static batching.

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
            request, slot = self.waiting.popleft(), self.free.pop()
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
        if not self.running:
            self.admit()
        finished = self.evict()
        if self.running:
            slots = sorted(self.running)
            latest = [self.running[slot].tokens[-1] for slot in slots]
            for slot, token in zip(slots, self.engine.decode(slots, latest)):
                self.running[slot].tokens.append(token)
        return finished + self.evict()
