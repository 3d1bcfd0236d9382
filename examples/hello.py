import anyio
from taskweave import App

app = App("sqlite:///hello.db")

@app.task
async def greet(name: str) -> None:
    print(f"Hello, {name}!")

if __name__ == "__main__":
    greet.enqueue_sync("world")
    anyio.run(lambda: app.run_worker(until_idle=True))
