"""An order waits for its payment without holding a worker; natively on trio.

A job that cannot go on yet raises Snooze: it gives its slot and its attempt back, and comes again. One that must not
go on raises Cancel. A job that succeeded may leave children behind: they come to be if and only if it did.
"""

import trio

from taskweave import App, Cancel, Ctx, JobCancelled, Snooze, inject

app = App("memory://")
paid: set[str] = set()
asked: list[str] = []


@app.task
async def send_receipt(order: str) -> None:
    print(f"{order}: receipt sent")


@app.task
async def fulfil(order: str, ctx: Ctx = inject()) -> str:
    asked.append(order)
    if order == "forged":
        raise Cancel("the signature does not match")
    if order not in paid:
        raise Snooze("20ms", "waiting for the payment")
    ctx.enqueue(send_receipt.call(order))
    return f"{order}: fulfilled on attempt {ctx.attempt}"


async def main() -> None:
    async with app.worker():
        lamp = await fulfil.enqueue("lamp")
        forged = await fulfil.enqueue("forged")
        while asked.count("lamp") < 3:
            await trio.sleep(0.005)
        paid.add("lamp")
        await app.wait_until_idle()
        print(await lamp.result(timeout="10s"))
        try:
            await forged.result(timeout="10s")
        except JobCancelled as cancelled:
            print(f"forged: cancelled, {cancelled.reason}")


if __name__ == "__main__":
    trio.run(main)
