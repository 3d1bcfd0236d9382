"""Processor-bound work in processes: makes pictures, and shrinks each to a thumbnail in a child that can be killed.

Only the standard library: a picture is a portable graymap (PGM). One picture is damaged, and its job fails alone.
"""

from pathlib import Path

import anyio

from taskweave import App, JobFailed

app = App("memory://")


def write_pgm(path: Path, width: int, pixels: bytes) -> None:
    path.write_bytes(b"P5 %d %d 255\n" % (width, len(pixels) // width) + pixels)


def read_pgm(path: Path) -> tuple[int, bytes]:
    header, _, pixels = path.read_bytes().partition(b"\n")
    kind, width, height, _ = header.split()
    if kind != b"P5" or len(pixels) != int(width) * int(height):
        raise ValueError(f"{path.name} is damaged")
    return int(width), pixels


@app.task(run_in="process", timeout="30s")
def shrink(path: str, factor: int = 4) -> str:
    """Each pixel of the thumbnail is the mean of a square of the picture."""
    width, pixels = read_pgm(Path(path))
    small = bytearray()
    for top in range(0, len(pixels) // width, factor):
        for left in range(0, width, factor):
            square = [pixels[(top + y) * width + left + x] for y in range(factor) for x in range(factor)]
            small.append(sum(square) // len(square))
    target = Path(path).with_suffix(".thumb.pgm")
    write_pgm(target, width // factor, bytes(small))
    return f"{target.name}: {width // factor} x {len(small) // (width // factor)}"


async def main() -> None:
    for number in range(4):
        write_pgm(Path(f"picture{number}.pgm"), 64, bytes((x * (number + 1)) % 256 for x in range(64 * 48)))
    Path("picture2.pgm").write_bytes(b"P5 64 48 255\nnot so many pixels")
    async with app.worker(processes=2):
        jobs = await shrink.enqueue_many([(str(path),) for path in sorted(Path().glob("picture?.pgm"))])
        for job in jobs:
            try:
                print(await job.result(timeout="30s"))
            except JobFailed as failed:
                print(f"failed: {failed.error_type}: {failed.error_message}")


if __name__ == "__main__":
    anyio.run(main)
