"""facts"""

from typing import Any

async def facts(dataset: Any) -> dict[str, Any]:
    return {}

async def problems(dataset: Any) -> list[str]:
    return []
