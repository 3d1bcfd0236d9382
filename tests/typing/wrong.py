"""Wrong uses: each line that is marked is rejected by both checkers, and no other. Not run."""

from right import app, double, double_task, fetch, resize, send_mail

from taskweave import App, Retry, Unique


async def bad() -> None:
    await fetch.enqueue(1)  # E wrong type
    await send_mail.enqueue("acme")  # E missing argument
    await fetch.enqueue("u", retries=2)  # E no such parameter
    await fetch.enqueue(link="u")  # E no such parameter
    fetch.call(2)  # E wrong type
    x: str = await (await fetch.enqueue("u")).result()  # E int result
    y: int = await (await resize.call("u").enqueue()).result()  # E str result
    z: int = resize("a.png")  # E str result
    w: str = await fetch("u")  # E int result
    resize(3)  # E wrong type
    fetch.options(dealy="1h")  # E no such option
    fetch.options(priority="high")  # E wrong type
    fetch.options(at="tomorrow")  # E wrong type
    await fetch.enqueue_many(["u"])  # E not tuples
    v: str = double_task.enqueue_sync(2).result_sync()  # E int result
    double_task.enqueue_sync("2")  # E wrong type
    await resize.run(1)  # E wrong type
    await app.update(3, priority=1)  # E not an id
    app.worker(concurency=3)  # E no such setting
    print(x, y, z, w, v)


App(3)  # E not an address
App("memory://", concurency=3)  # E no such setting
app.task(double, timout="1s")  # E no such option
app.task(double, run_in="gpu")  # E no such mode
app.task(double, delivery="exactly_once")  # E no such delivery
app.task("double")  # E no function
Retry("often")  # E wrong type
Unique(on_conflict="ignore")  # E no such policy
