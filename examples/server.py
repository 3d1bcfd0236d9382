"""A small web server that answers at once and works in the background, all in one process.

    POST /reports?pages=3     202, with the job's id
    GET /reports/<id>         its state, its progress, in the end its result

The worker is embedded: it runs in the server's own event loop and leaves signals to it.
"""

import json
from urllib.parse import parse_qs, urlsplit

import anyio
from anyio.abc import SocketStream

from taskweave import App, Ctx, InvalidInput, JobNotFound, inject

app = App("memory://")


@app.task(timeout="1m")
async def render(pages: int, ctx: Ctx = inject()) -> str:
    for page in range(1, pages + 1):
        ctx.progress(page, pages, f"page {page}")
        await anyio.sleep(0)
    return f"report of {pages} pages"


async def answer(method: str, target: str) -> tuple[int, dict[str, object]]:
    url = urlsplit(target)
    try:
        if method == "POST" and url.path == "/reports":
            job = await render.enqueue(int(parse_qs(url.query)["pages"][0]))
            return 202, {"id": job.id}
        if method == "GET" and url.path.startswith("/reports/"):
            handle = app.handle(url.path.removeprefix("/reports/"))
            job = await app.get(handle.id)
            state = job.state.value
            return 200, {"state": state, "result": await handle.result() if state == "succeeded" else None}
    except (InvalidInput, KeyError, ValueError) as error:
        return 400, {"error": str(error)}
    except JobNotFound as error:
        return 404, {"error": str(error)}
    return 404, {"error": "no such page"}


async def serve(stream: SocketStream) -> None:
    async with stream:
        request = (await stream.receive(16_384)).decode("ascii", "replace")
        method, target, *_ = request.split(" ", 2)
        status, document = await answer(method, target)
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send(head.encode() + body)


async def ask(port: int, method: str, target: str) -> tuple[int, dict[str, str]]:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(f"{method} {target} HTTP/1.1\r\n\r\n".encode())
        head, _, body = (await stream.receive(16_384)).partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)


async def main() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener, app.worker(concurrency=4), anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        status, created = await ask(port, "POST", "/reports?pages=3")
        print(status, sorted(created))
        await app.handle(created["id"]).result(timeout="10s")
        print(*await ask(port, "GET", f"/reports/{created['id']}"))
        print(*await ask(port, "POST", "/reports?pages=many"))
        print((await ask(port, "GET", "/reports/00000000-0000-7000-8000-000000000000"))[0])
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
