# fails: test-step
# ko: 디코드한 토큰을 앉은 순서대로 나눠 줘서, 자리가 바뀐 뒤에는 남의 토큰을 받아요.
# en: Hands the tokens out in the order of seating, so that after a change of seats they go to others.

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
            request, slot = self.waiting.popleft(), self.free.pop(0)
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
            for request, token in zip(self.running.values(), self.engine.decode(slots, latest)):
                request.tokens.append(token)
        return finished + self.evict()
