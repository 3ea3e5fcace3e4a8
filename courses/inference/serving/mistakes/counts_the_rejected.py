# fails: test-triage
# ko: 거절한 요청의 프리필 시간까지 뒷사람에게 더해서, 지킬 수 있는 사람까지 거절해요.
# en: Adds the prefill of rejected requests to those behind, and so rejects some that could be served.

# %% id="triage"
def triage(waiting, now, speed):
    keep, reject, load = [], [], 0
    for request in sorted(waiting, key=lambda r: (r["made"] == 0, r["deadline"], r["number"])):
        load += request["todo"]
        late = request["made"] == 0 and now + load / speed > request["deadline"]
        (reject if late else keep).append(request["number"])
    return keep, reject
