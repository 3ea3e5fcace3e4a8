# fails: test-serve
# ko: 답을 요청한 순서가 아니라 끝난 순서대로 담아요.
# en: Collects the answers in the order in which they finish, not in that of the requests.

# %% id="serve"
def serve(engine, requests):
    scheduler, answers = Scheduler(engine), []
    for number, (prompt, most) in enumerate(requests):
        scheduler.submit(number, prompt, most)
    while len(answers) < len(requests):
        answers += [tokens for _, tokens in scheduler.step()]
    return answers
