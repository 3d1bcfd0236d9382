import anyio
from taskweave import App

app = App("sqlite:///hello.db")

@app.task
async def greet(name: str) -> str:
    return f"Hello, {name}!"

async def main() -> None:
    async with app.worker():
        print(await (await greet.enqueue("world")).result())

if __name__ == "__main__":
    anyio.run(main)
